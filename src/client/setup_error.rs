//! The error of a wrong setting of a client or a verifier.

use std::{error::Error, fmt, fs, path::Path};

/// A client or a verifier cannot be created. The text names the setting and the problem.
#[derive(Debug)]
pub struct SetupError {
    what: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl SetupError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cause: None }
    }

    pub(super) fn because(what: impl Into<String>, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what: what.into(), cause: Some(cause.into()) }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

impl Error for SetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// Reads the file of CA certificates, PEM.
pub(super) fn read_ca_file(file: &Path) -> Result<Vec<u8>, SetupError> {
    fs::read(file).map_err(|cause| SetupError::because(format!("the CA file {}", file.display()), cause))
}
