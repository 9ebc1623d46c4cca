//! Opening: who this peer is, and where its share is kept.

use js_sys::Uint8Array;
use roundelay_core::Network;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::spawn_local;
use web_sys::Window;

use super::Storage;
use super::database::{Database, IDENTITY, RECORDS, answer, complete};
use super::kept::Kept;
use super::lock::Lock;
use crate::clock;
use crate::error::{Error, words};

/// The keys of what a peer knows of itself.
const SEED: &str = "seed";
const EPOCH: &str = "epoch";

/// What a peer starts with.
#[derive(Debug)]
pub(crate) struct Start {
    /// The seed of its Ed25519 key.
    pub(crate) seed: [u8; 32],
    /// Greater than at every earlier start of this identity.
    pub(crate) epoch: u64,
    pub(crate) storage: Storage,
}

/// Takes up the identity and the share that the browser keeps of a network, or
/// else begins with new ones, in memory. With `anew`, the share is dropped.
///
/// # Errors
/// When the browser gives no randomness.
pub(crate) async fn open(network: &Network, anew: bool) -> Result<Start, Error> {
    let window = clock::window()?;
    let fresh = clock::random_seed()?;
    match kept(&window, &name(network), fresh, anew).await {
        Ok(start) => Ok(start),
        Err(why) => transient(why),
    }
}

/// A peer that nothing is kept of, and why.
///
/// # Errors
/// When the browser gives no randomness.
pub(crate) fn transient(why: String) -> Result<Start, Error> {
    Ok(Start {
        seed: clock::random_seed()?,
        epoch: clock::now().unix_ms,
        storage: Storage::memory(why),
    })
}

/// Of the lock and of the database: a network's own.
fn name(network: &Network) -> String {
    let hex = network.id().iter().map(|byte| format!("{byte:02x}"));
    format!("roundelay-{}", hex.collect::<String>())
}

async fn kept(window: &Window, name: &str, fresh: [u8; 32], anew: bool) -> Result<Start, String> {
    let lock = Lock::take(window, name).await?;
    let opened = Database::open(window, name).await;
    let database = match opened {
        Ok(database) => database,
        Err(why) => {
            drop(lock.release());
            return Err(refused(&why));
        }
    };
    match identity(&database, fresh, anew).await {
        Ok((seed, epoch)) => {
            if seed == fresh {
                ask_to_persist(window);
            }
            let storage = Storage::kept(Kept::new(database, lock));
            Ok(Start {
                seed,
                epoch,
                storage,
            })
        }
        Err(why) => {
            database.close();
            drop(lock.release());
            Err(refused(&why))
        }
    }
}

fn refused(why: &str) -> String {
    format!(
        "this browser keeps nothing of this peer, since {why}: its identity and share are gone \
         with the page"
    )
}

/// The seed and the epoch, counted up; both are on the disk.
async fn identity(
    database: &Database,
    fresh: [u8; 32],
    anew: bool,
) -> Result<([u8; 32], u64), String> {
    let said = |exception: JsValue| words(&exception);
    let damaged = || "the identity that it keeps is damaged; clear this site's data".to_owned();
    let transaction = database.write(&[IDENTITY, RECORDS]).map_err(said)?;
    let store = transaction.object_store(IDENTITY).map_err(said)?;
    let get = |key: &str| {
        let request = store.get(&key.into());
        request.map(|request| answer(&request)).map_err(said)
    };
    let (seed, epoch) = (get(SEED)?, get(EPOCH)?);
    let seed = seed.await.map_err(said)?;
    let epoch = epoch.await.map_err(said)?;
    let now = clock::now().unix_ms;
    let (seed, epoch) = if seed.is_undefined() && epoch.is_undefined() {
        (fresh, now)
    } else {
        let bytes = seed.dyn_into::<Uint8Array>().map_err(|_| damaged())?;
        let seed = bytes.to_vec().try_into().map_err(|_| damaged())?;
        let before = epoch.as_f64().ok_or_else(damaged)? as u64;
        (seed, now.max(before.saturating_add(1)))
    };
    let put = |key: &str, value: &JsValue| {
        let request = store.put_with_key(value, &key.into());
        request.map(drop).map_err(said)
    };
    put(SEED, &Uint8Array::from(seed.as_slice()).into())?;
    put(EPOCH, &(epoch as f64).into())?;
    if anew {
        let records = transaction.object_store(RECORDS).map_err(said)?;
        records.clear().map_err(said)?;
    }
    let durable = complete(&transaction).await;
    durable.map_err(|error| error.to_string())?;
    Ok((seed, epoch))
}

/// Asks that the browser throw nothing away when it lacks room. Some ask the
/// user, so that this is done once.
fn ask_to_persist(window: &Window) {
    if let Ok(asked) = window.navigator().storage().persist() {
        spawn_local(async move {
            let _ = wasm_bindgen_futures::JsFuture::from(asked).await;
        });
    }
}
