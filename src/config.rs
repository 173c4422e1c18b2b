//! Settings of a process: a TOML file, then the environment, then flags; the later wins over the earlier.
//!
//! A settings struct is at once the process's flags (clap), the file's keys and the variables' names (serde), so each
//! setting is written down once. A key that is not known is an error that names it and where it stands.

use std::{fmt, fs, path::Path, path::PathBuf};

use clap::{ArgMatches, parser::ValueSource};
use figment::{
    Figment, Metadata,
    error::Kind,
    providers::{Env, Format as _, Serialized, Toml},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Map, Value};
use thiserror::Error;

/// What every process with a configuration takes besides its settings.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigFlags {
    /// Configuration file (TOML); its keys are the flags' names with underscores.
    #[arg(long, value_name = "FILE", env = "WAYSTATION_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the configuration that file, environment and flags make together, and stop. Secrets are not shown.
    #[arg(long)]
    pub print_config: bool,
}

/// Settings that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file is not there, or may not be read.
    #[error("configuration file {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A key that no setting has.
    #[error("unknown key {key:?} in {place}; known keys here: {known}")]
    UnknownKey {
        /// Its path.
        key: String,
        /// The file or variable.
        place: String,
        /// The keys that there are.
        known: String,
    },
    /// A value that does not fit its key, or text that is no TOML.
    #[error("{what}{place}")]
    Value {
        /// What is wrong.
        what: String,
        /// The key, and the file or variable.
        place: String,
    },
    /// A secret's file.
    #[error("{key} {}: {source}", path.display())]
    SecretFile {
        /// The setting that names it.
        key: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A secret that must be there is not.
    #[error(
        "no {key} is set: give {key} or {key}_file in the configuration file, or {variable} in the environment"
    )]
    NoSecret {
        /// The setting.
        key: &'static str,
        /// The variable that sets it.
        variable: String,
    },
}

/// Merges a file, the variables that start with `prefix`, and the flags that were given. `flags` holds clap's
/// defaults for the rest, which are the settings' defaults.
///
/// # Errors
/// [`ConfigError`] names the key and where its value stands.
pub fn load<T: Serialize + DeserializeOwned>(
    flags: &T,
    matches: &ArgMatches,
    file: Option<&Path>,
    prefix: &str,
) -> Result<T, ConfigError> {
    let (given, defaults) = split(flags, matches);
    let mut figment = Figment::from(Serialized::defaults(defaults));
    if let Some(path) = file {
        fs::read(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    let variables = Env::prefixed(prefix).filter(|key| !set_by_kubernetes(key.as_str()));
    figment = figment.merge(variables).merge(Serialized::defaults(given));
    figment.extract().map_err(|error| explain(&figment, error, prefix))
}

/// The flags that were given on the command line, and the defaults of the others.
fn split<T: Serialize>(flags: &T, matches: &ArgMatches) -> (Map<String, Value>, Map<String, Value>) {
    let all = match serde_json::to_value(flags) {
        Ok(Value::Object(all)) => all,
        Ok(_) | Err(_) => Map::new(),
    };
    all.into_iter().filter(|(_, value)| !value.is_null()).partition(|(key, _)| {
        matches.try_contains_id(key).is_ok() && matches.value_source(key) == Some(ValueSource::CommandLine)
    })
}

/// Variables that Kubernetes sets in every pod for a Service called waystation-relay or -coordinator.
fn set_by_kubernetes(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key == "port"
        || key.starts_with("port_")
        || key.starts_with("service_host")
        || key.starts_with("service_port")
}

fn explain(figment: &Figment, error: figment::Error, prefix: &str) -> ConfigError {
    let key = error.path.join(".");
    if let Kind::UnknownField(name, known) = &error.kind {
        let names_itself = key == *name || key.ends_with(&format!(".{name}"));
        let key = match (key.is_empty(), names_itself) {
            (true, _) => name.clone(),
            (false, true) => key,
            (false, false) => format!("{key}.{name}"),
        };
        let place = place(figment, error.metadata.as_ref(), &key, prefix);
        return ConfigError::UnknownKey { key, place, known: known.join(", ") };
    }
    let place = match error.metadata.as_ref().or_else(|| figment.find_metadata(&key)) {
        Some(metadata) if key.is_empty() => format!(" in {}", describe(metadata)),
        Some(_) => format!(" at key {key:?} in {}", place(figment, error.metadata.as_ref(), &key, prefix)),
        None => String::new(),
    };
    ConfigError::Value { what: error.kind.to_string().trim_end().to_owned(), place }
}

fn place(figment: &Figment, metadata: Option<&Metadata>, key: &str, prefix: &str) -> String {
    match figment.find_metadata(key).or(metadata) {
        Some(metadata) if metadata.name.contains("environment") => {
            let top = key.split('.').next().unwrap_or(key);
            format!("the environment ({prefix}{})", top.to_ascii_uppercase())
        }
        Some(metadata) => describe(metadata),
        None => "the configuration".into(),
    }
}

fn describe(metadata: &Metadata) -> String {
    match metadata.source.as_ref().and_then(figment::Source::file_path) {
        Some(path) => path.display().to_string(),
        None if metadata.name.contains("environment") => "the environment".into(),
        None => "the flags".into(),
    }
}

/// The settings as a TOML file.
///
/// # Errors
/// When a setting cannot be written as TOML.
pub fn to_toml<T: Serialize>(settings: &T) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(settings)
}

/// A secret text: shown neither by `Debug` nor by `--print-config`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(secret)")
    }
}

/// A secret that is given as it is, or by the file that holds it; the file wins.
///
/// # Errors
/// [`ConfigError`] when the file cannot be read, or neither is given.
pub fn secret(
    key: &'static str,
    prefix: &str,
    inline: Option<&Secret>,
    file: Option<&Path>,
) -> Result<Secret, ConfigError> {
    match (file, inline) {
        (Some(path), _) => match fs::read_to_string(path) {
            Ok(text) => Ok(Secret(text.trim().to_owned())),
            Err(source) => Err(ConfigError::SecretFile { key, path: path.to_owned(), source }),
        },
        (None, Some(secret)) => Ok(secret.clone()),
        (None, None) => {
            Err(ConfigError::NoSecret { key, variable: format!("{prefix}{}", key.to_ascii_uppercase()) })
        }
    }
}

/// A list in a file is an array; in a variable it may be a text with commas.
///
/// # Errors
/// When it is neither.
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum List {
        Text(String),
        Array(Vec<String>),
    }
    Ok(match List::deserialize(deserializer)? {
        List::Array(items) => items,
        List::Text(text) => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, path::Path};

    use clap::{Args, Command, FromArgMatches as _};
    use serde::{Deserialize, Serialize};

    use super::{ConfigError, Secret, load, secret, set_by_kubernetes};

    #[derive(Clone, Debug, Args, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[arg(long, default_value = "one")]
        id: String,
        #[arg(long, default_value_t = 7)]
        workers: u16,
        #[arg(long, value_delimiter = ',')]
        #[serde(deserialize_with = "super::list")]
        peers: Vec<String>,
        #[arg(skip)]
        secret: Option<Secret>,
    }

    /// No variable of this name is set by anybody.
    const PREFIX: &str = "WAYSTATION_CONFIG_TEST_";

    fn read(flags: &[&str], file: Option<&str>) -> Result<Settings, ConfigError> {
        let command = Settings::augment_args(Command::new("test"));
        let matches = command.get_matches_from([&["test"], flags].concat());
        let parsed = Settings::from_arg_matches(&matches).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.toml");
        if let Some(text) = file {
            std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        }
        load(&parsed, &matches, file.is_some().then_some(path.as_path()), PREFIX)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let settings = read(&["--id", "flag"], Some("id = 'file'\nworkers = 3\npeers = ['a']")).unwrap();
        assert_eq!(
            (settings.id.as_str(), settings.workers, settings.peers),
            ("flag", 3, vec!["a".to_owned()])
        );
        let settings = read(&[], Some("peers = 'a, b'")).unwrap();
        assert_eq!((settings.id.as_str(), settings.workers, settings.peers.len()), ("one", 7, 2));
        assert_eq!(read(&["--peers", "x,y,z"], None).unwrap().peers.len(), 3);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file() {
        let error = read(&[], Some("wrokers = 3")).unwrap_err().to_string();
        assert!(error.contains("\"wrokers\"") && error.contains("node.toml"), "{error}");
        assert!(error.contains("workers"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named_with_its_key_and_file() {
        let error = read(&[], Some("workers = 'many'")).unwrap_err().to_string();
        assert!(error.contains("workers") && error.contains("node.toml"), "{error}");
    }

    #[test]
    fn text_that_is_no_toml_and_a_missing_file_are_clear_errors() {
        let error = read(&[], Some("= [")).unwrap_err().to_string();
        assert!(error.contains("node.toml"), "{error}");
        let matches = Settings::augment_args(Command::new("test")).get_matches_from(["test"]);
        let parsed = Settings::from_arg_matches(&matches).unwrap();
        let error =
            load(&parsed, &matches, Some(Path::new("/no/such.toml")), PREFIX).unwrap_err().to_string();
        assert!(error.contains("/no/such.toml"), "{error}");
    }

    #[test]
    fn a_secret_is_never_shown_and_its_file_wins() {
        let settings = read(&[], Some("peers = []\nsecret = 'hush'")).unwrap();
        assert!(!format!("{settings:?}").contains("hush"));
        assert!(!super::to_toml(&settings).unwrap().contains("hush"));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "from file\n").unwrap();
        let taken = secret("secret", PREFIX, settings.secret.as_ref(), Some(&path)).unwrap();
        assert_eq!(taken.expose(), "from file");
        let error = secret("secret", PREFIX, None, None).unwrap_err().to_string();
        assert!(error.contains("WAYSTATION_CONFIG_TEST_SECRET"), "{error}");
    }

    #[test]
    fn variables_of_a_kubernetes_service_are_no_settings() {
        for key in ["PORT", "port_8080_tcp_addr", "SERVICE_HOST", "service_port_http"] {
            assert!(set_by_kubernetes(key), "{key}");
        }
        assert!(!set_by_kubernetes("media_port"));
    }
}
