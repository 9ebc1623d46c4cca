//! From options to a member of a ring.

use roundelay_core::status::Class;
use roundelay_core::{Config, Identity, Network, Node, RingEntry, TOMBSTONE_GRACE};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::console;

use crate::clock;
use crate::error::{Code, Error, is_of, words};
use crate::handle::Handle;
use crate::info::{self, Info};
use crate::joining::{Attempt, JOIN_TIMEOUT, Joining, unreachable};
use crate::link::direct;
use crate::options::JoinOptions;
use crate::store::{self, Start, Storage};

/// Direct links that a page holds at once.
const DIRECT_BUDGET: usize = 32;
/// Characters of its id in the name of a peer that is given none.
const NAME_ID_LEN: usize = 4;

/// Joins a ring. The handle's node is a member of it.
///
/// # Errors
/// As an `Error` with a code.
pub(crate) async fn join(options: JsValue) -> Result<Handle, JsValue> {
    let begun = clock::now();
    let options = JoinOptions::parse(&options)?;
    let relays = options.relay_urls()?;
    let info = info::ask(&relays).await;
    check_secret(&options, info.as_ref())?;
    let stun = info.as_ref().and_then(Info::stun_url);
    let attempt = Attempt {
        deadline: begun.mono + JOIN_TIMEOUT,
        has_secret: options.secret.is_some(),
        has_info: info.is_some(),
        relays: relays.clone(),
    };
    let name = options.network.clone();
    let name = name.or_else(|| info.map(|info| info.network));
    let name = name.ok_or_else(|| unreachable(&relays))?;
    let network = network(&options, &name)?;
    let attempt = |start| {
        let node = node(&options, &network, &relays, &start);
        drive(node, start.storage, stun.clone(), attempt.clone())
    };
    let failure = match attempt(store::open(&network, false).await?).await {
        Ok(handle) => return Ok(handle),
        Err(failure) => failure,
    };
    let start = if is_of(&failure, Code::OtherRing) {
        // The ring that the share is of is gone from here, and the two never
        // merge.
        console::warn_2(
            &"the share that was kept is of another ring, and dropped:".into(),
            &failure,
        );
        store::open(&network, true).await?
    } else if is_of(&failure, Code::Storage) {
        console::warn_1(&failure);
        let why = words(&failure);
        let why = format!("{why}, or clear this site's data; this peer is gone with the page");
        store::transient(why)?
    } else {
        return Err(failure);
    };
    attempt(start).await
}

/// Drives a node until it is a member of a ring.
async fn drive(
    node: Result<Node, Error>,
    storage: Storage,
    stun: Option<String>,
    attempt: Attempt,
) -> Result<Handle, JsValue> {
    let handle = Handle::start(node?, stun, storage);
    let joined = handle.turn(|driver| driver.join(|deferred, _| Joining::new(attempt, deferred)));
    if let Err(error) = JsFuture::from(joined).await {
        let _ = JsFuture::from(handle.turn(|driver| driver.leave())).await;
        return Err(error);
    }
    Ok(handle)
}

fn check_secret(options: &JoinOptions, info: Option<&Info>) -> Result<(), Error> {
    let Some(info) = info else {
        return Ok(());
    };
    let network = options.network.as_ref().unwrap_or(&info.network);
    if options.secret.is_none() && info.wants_secret(network) {
        let message = format!("the network {network:?} wants a secret: give it");
        return Err(Error::new(Code::SecretRequired, message));
    }
    Ok(())
}

fn network(options: &JoinOptions, name: &str) -> Result<Network, Error> {
    let secret = options.secret.as_deref().unwrap_or_default();
    Network::new(name, secret.as_bytes()).map_err(|error| Error::new(Code::BadOptions, error))
}

fn node(
    options: &JoinOptions,
    network: &Network,
    relays: &[String],
    start: &Start,
) -> Result<Node, Error> {
    let identity = Identity::from_seed(&start.seed);
    let now = clock::now();
    let config = Config {
        network: network.clone(),
        class: Class::Transient,
        name: options.name.clone().unwrap_or_else(|| name(&identity)),
        epoch: start.epoch,
        relays: relays.to_vec(),
        entry: RingEntry::Join,
        direct_budget: if direct::is_supported() {
            DIRECT_BUDGET
        } else {
            0
        },
        tombstone_grace: TOMBSTONE_GRACE,
    };
    let seed = clock::random_seed()?;
    Node::new(identity, config, seed, now).map_err(|error| Error::new(Code::BadOptions, error))
}

/// A name that tells pages apart.
fn name(identity: &Identity) -> String {
    let id = identity.id().to_string();
    let head: String = id.chars().take(NAME_ID_LEN).collect();
    format!("page-{head}")
}
