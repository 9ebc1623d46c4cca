//! The way to a running node: a [`Handle`] sends [`Command`]s to the one task
//! that owns it.
//!
//! The queue between them is bounded. A caller whose command finds it full
//! *waits for room*: callers are few (the HTTP API bounds its requests and
//! says [`Busy`](roundelay_core::kvs::RequestError::Busy) beyond that), and a
//! short wait is better than a refusal that every caller must handle. How many
//! requests a node works on at once is core's limit, not this queue's.

use roundelay_core::NodeId;
use roundelay_core::kvs::{Condition, Key, List, Mode, Reply, Terms, Watch};
use roundelay_core::status::{Location, RingStatus, Status};
use tokio::sync::{mpsc, oneshot};

/// How many commands wait for the driver before callers wait too.
pub const COMMAND_QUEUE_LEN: usize = 1024;

/// What a caller asks of the driver. The reply's receiver may be gone by the
/// time the reply is ready: drivers ignore that.
#[derive(Debug)]
pub enum Command {
    /// Read a key.
    Get {
        /// The key.
        key: Key,
        /// What the read promises.
        mode: Mode,
        /// Where the answer goes.
        reply: oneshot::Sender<Reply>,
    },
    /// Write a key, or delete it.
    Write {
        /// The key.
        key: Key,
        /// Its new value; core refuses one that is too long. Without one, it is
        /// deleted.
        value: Option<Vec<u8>>,
        /// What the write promises, its condition, and how long it lasts.
        terms: Terms,
        /// Where the answer goes.
        reply: oneshot::Sender<Reply>,
    },
    /// List a page of a bucket.
    List {
        /// Which.
        list: List,
        /// Where the answer goes.
        reply: oneshot::Sender<Reply>,
    },
    /// Ask for the next piece of a watch.
    Watch {
        /// Of which.
        watch: Watch,
        /// Where the answer goes.
        reply: oneshot::Sender<Reply>,
    },
    /// Tell the node's status.
    Status {
        /// Where the answer goes.
        reply: oneshot::Sender<Status>,
    },
    /// Tell the ring as the node knows it.
    Ring {
        /// Where the answer goes.
        reply: oneshot::Sender<RingStatus>,
    },
    /// Tell where a key lives.
    Locate {
        /// The key.
        key: Key,
        /// Where the answer goes.
        reply: oneshot::Sender<Location>,
    },
    /// Give a voter up for lost.
    Evict {
        /// Which member.
        id: NodeId,
        /// Where the answer goes.
        reply: oneshot::Sender<Reply>,
    },
    /// Leave the ring, then stop; the answer comes when the others know.
    Leave {
        /// Where the answer goes.
        reply: oneshot::Sender<()>,
    },
}

/// The driver has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// Before it took the command: surely nothing was done.
    #[error("the node has stopped; nothing was done")]
    Before,
    /// After it took the command: a write may or may not have been applied.
    #[error("the node stopped before it answered; a write may or may not have been applied")]
    During,
}

/// A cheap, cloneable way to a running node.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// A handle, and the queue that the driver takes commands from. The
    /// driver stops when [`mpsc::Receiver::recv`] says that no handle is left.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE_LEN);
        (Self { commands }, queue)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn get(&self, key: Key, mode: Mode) -> Result<Reply, Stopped> {
        self.ask(|reply| Command::Get { key, mode, reply }).await
    }

    /// Writes a key.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn put(&self, key: Key, value: Vec<u8>, mode: Mode) -> Result<Reply, Stopped> {
        self.write(key, Some(value), mode.into()).await
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn delete(&self, key: Key, mode: Mode) -> Result<Reply, Stopped> {
        self.write(key, None, mode.into()).await
    }

    /// Writes a key, or deletes it, if a condition holds.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn compare_and_set(
        &self,
        key: Key,
        condition: Condition,
        value: Option<Vec<u8>>,
    ) -> Result<Reply, Stopped> {
        self.write(key, value, condition.into()).await
    }

    /// Writes a key, or deletes it without a value, as the terms say.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn write(
        &self,
        key: Key,
        value: Option<Vec<u8>>,
        terms: Terms,
    ) -> Result<Reply, Stopped> {
        self.ask(|reply| Command::Write {
            key,
            value,
            terms,
            reply,
        })
        .await
    }

    /// Lists a page of a bucket.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn list(&self, list: List) -> Result<Reply, Stopped> {
        self.ask(|reply| Command::List { list, reply }).await
    }

    /// Asks for the next piece of a watch; see
    /// [`Node::watch`](roundelay_core::Node::watch).
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn watch(&self, watch: Watch) -> Result<Reply, Stopped> {
        self.ask(|reply| Command::Watch { watch, reply }).await
    }

    /// The node's status.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn status(&self) -> Result<Status, Stopped> {
        self.ask(|reply| Command::Status { reply }).await
    }

    /// The ring as the node knows it.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn ring(&self) -> Result<RingStatus, Stopped> {
        self.ask(|reply| Command::Ring { reply }).await
    }

    /// Where a key lives.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn locate(&self, key: Key) -> Result<Location, Stopped> {
        self.ask(|reply| Command::Locate { key, reply }).await
    }

    /// Gives a voter up for lost; see
    /// [`Node::evict`](roundelay_core::Node::evict).
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn evict(&self, id: NodeId) -> Result<Reply, Stopped> {
        self.ask(|reply| Command::Evict { id, reply }).await
    }

    /// Leaves the ring and stops the node.
    ///
    /// # Errors
    /// When the driver has stopped already.
    pub async fn leave(&self) -> Result<(), Stopped> {
        self.ask(|reply| Command::Leave { reply }).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| Stopped::Before)?;
        answer.await.map_err(|_| Stopped::During)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_before_from_during() {
        let (handle, mut queue) = Handle::new();
        let asked = tokio::spawn({
            let handle = handle.clone();
            async move { handle.status().await }
        });
        drop(queue.recv().await);
        assert_eq!(asked.await.unwrap(), Err(Stopped::During));
        drop(queue);
        assert_eq!(handle.leave().await, Err(Stopped::Before));
    }
}
