//! What a relay or a node is told at its start, checked.

mod url;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use roundelay_core::{NAME_LEN_MAX, NameError, Network, RingEntry, check_name};

pub use self::url::{RelayUrl, UrlError};
use crate::api::{Options, Token, TokenError};
use crate::streams::{Exit, Exposed, Forwarded, NameTaken, PeerNames};

/// A secret or token file has at most this many bytes.
pub const SECRET_LEN_MAX: usize = 4096;

/// Where and for whom the HTTP API is served.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The listen address. Off loopback only with a token.
    pub listen: SocketAddr,
    /// Who may use it.
    pub options: Options,
}

/// What a relay's own member and a headless node are told alike; by default one in
/// memory, that serves nothing.
#[derive(Clone, Debug, Default)]
pub struct MemberConfig {
    /// Relays whose ring it joins.
    pub relays: Vec<RelayUrl>,
    /// The HTTP API, if it is wanted.
    pub http: Option<HttpConfig>,
    /// Where it keeps its share; in memory without one.
    pub data_dir: Option<PathBuf>,
    /// Its name, for people; may be empty.
    pub name: String,
    /// Whether it starts a ring of its own.
    pub new_ring: bool,
    /// Services of this machine that other members may reach.
    pub expose: Vec<Exposed>,
    /// Ports that lead to services of other members.
    pub forward: Vec<Forwarded>,
    /// What peers are called here.
    pub peers: PeerNames,
    /// Where it is a SOCKS5 proxy to services of other members, if it is.
    pub socks: Option<SocketAddr>,
    /// What else that proxy leads to.
    pub socks_exits: Vec<Exit>,
    /// Where it serves gord-overlay's interface, if it does: on loopback.
    pub gord: Option<SocketAddr>,
    /// Whether that makes gord-overlay's own errors.
    pub gord_errors: bool,
}

/// A relay.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Page, WebSocket and STUN.
    pub listen: SocketAddr,
    /// The networks that it serves, as one member each; never empty, and no
    /// name twice.
    pub networks: Vec<Network>,
    /// Under which URL pages and other relays reach it.
    pub public_url: Option<RelayUrl>,
    /// Its own members.
    pub member: MemberConfig,
}

/// A headless node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its network.
    pub network: Network,
    /// Direct links.
    pub udp: SocketAddr,
    /// The rest.
    pub member: MemberConfig,
}

/// Why a configuration cannot be used. The words say what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Two peers have one name.
    #[error(transparent)]
    PeerName(#[from] NameTaken),
    /// A secret or token file cannot be read.
    #[error("cannot read the {what} file {}: {source}; name a file that this user can read", .file.display())]
    Unreadable {
        /// What it should hold.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A secret or token file is empty.
    #[error("the {what} file {} is empty; fill it: openssl rand -hex 32 > {}", .file.display(), .file.display())]
    Empty {
        /// What it should hold.
        what: &'static str,
        /// The file.
        file: PathBuf,
    },
    /// A secret or token file is too long.
    #[error("the {what} file {} has more than {SECRET_LEN_MAX} bytes; is it the right one?", .file.display())]
    TooLong {
        /// What it should hold.
        what: &'static str,
        /// The file.
        file: PathBuf,
    },
    /// A token file holds no token.
    #[error("the token file {} holds no good token: {source}", .file.display())]
    Token {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: TokenError,
    },
    /// The API would be open to other machines without a token.
    #[error(
        "--http {listen} can be reached from other machines, so callers must show a token: make one (openssl rand -hex 32 > token) and add --token-file token, or listen on 127.0.0.1"
    )]
    TokenNeeded {
        /// The address.
        listen: SocketAddr,
    },
    /// gord-overlay's interface, which knows no tokens, would be open to other
    /// machines.
    #[error(
        "--gord-compat {0} can be reached from other machines, and asks nobody for a token; listen on 127.0.0.1"
    )]
    GordOpen(SocketAddr),
    /// TLS is wanted.
    #[error(
        "--tls-cert and --tls-key are not built yet; let a reverse proxy (Caddy, nginx) speak TLS, and name its URL with --public-url"
    )]
    TlsNotBuilt,
    /// A network is named twice.
    #[error("the network {0} is given twice; name each once")]
    NetworkTwice(String),
    /// A node's name cannot be shown.
    #[error(
        "the name {0:?} has more than {NAME_LEN_MAX} bytes or a control character; choose another --name"
    )]
    BadName(String),
}

/// A `--network` flag of a relay: `NAME` or `NAME=SECRETFILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFlag {
    /// The name.
    pub name: String,
    /// The file with the secret.
    pub secret_file: Option<PathBuf>,
}

impl FromStr for NetworkFlag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, file) = match text.split_once('=') {
            None => (text, None),
            Some((_, "")) => return Err(NameError),
            Some((name, file)) => (name, Some(PathBuf::from(file))),
        };
        Network::new(name, b"")?;
        Ok(Self {
            name: name.to_owned(),
            secret_file: file,
        })
    }
}

impl NetworkFlag {
    /// The network, its secret read from the file if it has one.
    ///
    /// # Errors
    /// When the file cannot be read, is empty or too long.
    pub fn load(&self) -> Result<Network, ConfigError> {
        let secret = self.secret_file.as_deref();
        let secret = secret.map(|file| read_secret("secret", file)).transpose()?;
        Network::new(&self.name, &secret.unwrap_or_default())
            .map_err(|NameError| ConfigError::BadName(self.name.clone()))
    }

    /// The networks of a relay.
    ///
    /// # Errors
    /// As [`NetworkFlag::load`], and when a name is given twice.
    pub fn load_all(flags: &[Self]) -> Result<Vec<Network>, ConfigError> {
        let mut networks: Vec<Network> = Vec::new();
        for flag in flags {
            if networks.iter().any(|network| network.name() == flag.name) {
                return Err(ConfigError::NetworkTwice(flag.name.clone()));
            }
            networks.push(flag.load()?);
        }
        Ok(networks)
    }
}

impl HttpConfig {
    /// Reads the token, and makes sure that there is one where other machines
    /// can reach the API.
    ///
    /// # Errors
    /// When the token is needed and missing, or its file is no good.
    pub fn load(
        listen: SocketAddr,
        allow_hosts: Vec<String>,
        token_file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let token = token_file.map(read_token).transpose()?;
        if token.is_none() && !listen.ip().to_canonical().is_loopback() {
            return Err(ConfigError::TokenNeeded { listen });
        }
        let options = Options { allow_hosts, token };
        Ok(Self { listen, options })
    }
}

impl MemberConfig {
    /// Whether it joins a ring or begins one.
    #[must_use]
    pub const fn entry(&self) -> RingEntry {
        match (self.new_ring, self.relays.is_empty()) {
            (true, _) => RingEntry::Renew,
            (false, true) => RingEntry::Begin,
            (false, false) => RingEntry::Join,
        }
    }
}

/// Reads a token file.
///
/// # Errors
/// When it cannot be read or holds no token.
pub fn read_token(file: &Path) -> Result<Token, ConfigError> {
    let bytes = read_secret("token", file)?;
    let text = std::str::from_utf8(&bytes).unwrap_or(" ");
    Token::new(text).map_err(|source| ConfigError::Token {
        file: file.to_owned(),
        source,
    })
}

/// Checks a node's name.
///
/// # Errors
/// When it is too long, or holds control characters.
pub fn checked_name(name: String) -> Result<String, ConfigError> {
    match check_name(&name) {
        Ok(()) => Ok(name),
        Err(NameError) => Err(ConfigError::BadName(name)),
    }
}

/// The bytes of a small file without the white space around them: an editor
/// or `echo` adds a line's end that nobody means.
fn read_secret(what: &'static str, file: &Path) -> Result<Vec<u8>, ConfigError> {
    use std::io::Read;
    let file = file.to_owned();
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&file).and_then(|opened| {
        opened
            .take(SECRET_LEN_MAX as u64 + 1)
            .read_to_end(&mut bytes)
    });
    match read {
        Err(source) => Err(ConfigError::Unreadable { what, file, source }),
        Ok(len) if len > SECRET_LEN_MAX => Err(ConfigError::TooLong { what, file }),
        Ok(_) => match bytes.trim_ascii() {
            [] => Err(ConfigError::Empty { what, file }),
            secret => Ok(secret.to_vec()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_trimmed_and_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let flag: NetworkFlag = format!("n={}", file.display()).parse().unwrap();
        let load = || flag.load();
        assert!(matches!(load(), Err(ConfigError::Unreadable { .. })));
        std::fs::write(&file, " \n").unwrap();
        assert!(matches!(load(), Err(ConfigError::Empty { .. })));
        std::fs::write(&file, vec![b'x'; SECRET_LEN_MAX + 1]).unwrap();
        assert!(matches!(load(), Err(ConfigError::TooLong { .. })));
        std::fs::write(&file, "hush\n").unwrap();
        assert!(load().unwrap() == Network::new("n", b"hush").unwrap());
    }

    #[test]
    fn networks_are_named_once() {
        let flags = ["a".parse().unwrap(), "b".parse().unwrap()];
        assert_eq!(NetworkFlag::load_all(&flags).unwrap().len(), 2);
        let flags = ["a".parse().unwrap(), "a".parse().unwrap()];
        let error = NetworkFlag::load_all(&flags).unwrap_err();
        assert!(matches!(error, ConfigError::NetworkTwice(_)));
        let flag: NetworkFlag = "a=b=c".parse().unwrap();
        assert_eq!(flag.secret_file, Some(PathBuf::from("b=c")));
        for bad in ["", "a\0b", "a=", "=f", &"a".repeat(65)] {
            assert_eq!(bad.parse::<NetworkFlag>(), Err(NameError), "{bad:?}");
        }
    }

    #[test]
    fn an_open_api_needs_a_token() {
        let local = "127.0.0.1:9101".parse().unwrap();
        let open = "0.0.0.0:9101".parse().unwrap();
        HttpConfig::load(local, Vec::new(), None).unwrap();
        let error = HttpConfig::load(open, Vec::new(), None).unwrap_err();
        assert!(error.to_string().contains("--token-file"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "short\n").unwrap();
        let error = HttpConfig::load(open, Vec::new(), Some(&file)).unwrap_err();
        assert!(matches!(error, ConfigError::Token { .. }), "{error}");
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        HttpConfig::load(open, Vec::new(), Some(&file)).unwrap();
    }
}
