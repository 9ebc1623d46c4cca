//! Why a relay or node cannot start. The words say what to do.

use std::io;

use crate::identity::IdentityError;
use crate::listen::ListenError;
use crate::store::OpenError;

/// Why a relay or node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// There is no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Core refuses the configuration.
    #[error("{0}")]
    Config(#[from] roundelay_core::ConfigError),
    /// The system fails.
    #[error("the system fails: {0}")]
    System(#[from] io::Error),
}
