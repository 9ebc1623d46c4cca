//! Names that this node's user gave to peers: `NAME=ID`.

use std::collections::BTreeMap;
use std::str::FromStr;

use roundelay_core::{NodeId, ParseIdError};

/// The longest name, in bytes.
const LEN_MAX: usize = 63;

/// A peer, and what it is called here. Case does not matter, as in hosts' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName {
    name: String,
    id: NodeId,
}

/// Why a text names no peer. The words say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerNameError {
    /// It does not have both parts, or the name is none.
    #[error("write NAME=ID, the name with 1 to {LEN_MAX} letters, digits, - and _")]
    Form,
    /// Not a peer's id.
    #[error("{0:?} is no peer's id: {1}")]
    Id(String, ParseIdError),
}

/// Two peers are called the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two peers are called {0:?}; give one of them another name")]
pub struct NameTaken(String);

/// All peers that have a name here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames(BTreeMap<String, NodeId>);

impl FromStr for PeerName {
    type Err = PeerNameError;

    fn from_str(text: &str) -> Result<Self, PeerNameError> {
        let (name, id) = text.split_once('=').ok_or(PeerNameError::Form)?;
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > LEN_MAX || !name.bytes().all(is_fit) {
            return Err(PeerNameError::Form);
        }
        let parsed = id.parse();
        Ok(Self {
            name: name.to_ascii_lowercase(),
            id: parsed.map_err(|error| PeerNameError::Id(id.to_owned(), error))?,
        })
    }
}

impl PeerNames {
    /// These names.
    ///
    /// # Errors
    /// When one stands for two peers.
    pub fn new(names: impl IntoIterator<Item = PeerName>) -> Result<Self, NameTaken> {
        let mut ids = BTreeMap::new();
        for PeerName { name, id } in names {
            if *ids.entry(name.clone()).or_insert(id) != id {
                return Err(NameTaken(name));
            }
        }
        Ok(Self(ids))
    }

    /// Who is called that.
    pub(crate) fn get(&self, name: &str) -> Option<NodeId> {
        self.0.get(&name.to_ascii_lowercase()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_one_peer() {
        let id = |byte| NodeId::from_bytes([byte; 32]);
        let named = |text: String| text.parse::<PeerName>().unwrap();
        let names = ["Kitchen", "attic", "KITCHEN"].map(|name| named(format!("{name}={}", id(1))));
        let names = PeerNames::new(names).unwrap();
        assert_eq!(names.get("kitchen"), Some(id(1)));
        assert_eq!(names.get("cellar"), None);
        let two = [1, 2].map(|byte| named(format!("kitchen={}", id(byte))));
        let error = PeerNames::new(two).unwrap_err().to_string();
        assert!(error.contains("kitchen"), "{error}");
        for (bad, words) in [
            ("kitchen".to_owned(), "NAME=ID"),
            (format!("={}", id(1)), "1 to 63"),
            (format!("a.b={}", id(1)), "letters"),
            ("kitchen=me".to_owned(), "no peer's id"),
        ] {
            let error = bad.parse::<PeerName>().unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
