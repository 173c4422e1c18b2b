//! Errors in words: each with its causes, none of them twice.
//!
//! Some messages hold their cause's words already (`cannot listen on 127.0.0.1:80: denied; choose another`), others leave
//! them to the chain. Both read well here.

use std::error::Error;

/// The error's message, and those of its causes that say something new.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(message.trim_end()) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use anyhow::Context as _;

    use super::with_causes;
    use crate::{config::ConfigError, media::Clip};

    #[test]
    fn a_cause_that_the_message_holds_is_not_told_again() {
        let source = io::Error::other("denied");
        let error = anyhow::Error::from(ConfigError::File { path: "node.toml".into(), source });
        assert_eq!(with_causes(error.as_ref()), "configuration file node.toml: denied");
        let error = Clip::open(Path::new("/no/such.ivf"), None).unwrap_err();
        assert_eq!(with_causes(&error).matches("No such file").count(), 1, "{error}");
    }

    #[test]
    fn a_cause_that_says_something_new_is_told() {
        let error = Err::<(), _>(io::Error::other("disk full")).context("cannot write a.ivf").unwrap_err();
        assert_eq!(with_causes(error.as_ref()), "cannot write a.ivf: disk full");
    }
}
