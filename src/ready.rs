//! Ready files: a JSON object that appears, whole, once a process is up.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// Where a process that is up can be reached. `dev` reads it from its children; scripts may, too.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "lowercase")]
pub enum Ready {
    /// A coordinator.
    Coordinator {
        /// Its process id.
        pid: u32,
        /// gRPC, gRPC-Web and the page.
        url: String,
        /// Address of its admin port.
        admin: String,
    },
    /// A relay.
    Relay {
        /// Its name.
        id: String,
        /// Its process id.
        pid: u32,
        /// Base address of WHIP, WHEP and the event connection.
        http: String,
        /// Address of the link service.
        link: String,
        /// The one media port.
        media_port: u16,
        /// Address of its admin port.
        admin: String,
    },
}

/// Writes a JSON file so that nobody ever sees half of it.
///
/// # Errors
/// Those of the file system.
pub fn write<T: Serialize>(path: &Path, content: &T) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let draft = path.with_file_name(name);
    fs::write(&draft, serde_json::to_vec_pretty(content)?)?;
    fs::rename(&draft, path)
}
