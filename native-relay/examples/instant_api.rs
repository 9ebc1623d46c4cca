//! The HTTP API over a node that answers at once: what HTTP itself costs.
//!
//! ```sh
//! cargo run --release -p roundelay --example instant_api -- 127.0.0.1:9190 &
//! wrk -t1 -c64 -d5 http://127.0.0.1:9190/v1/kv/bucket/key?mode=one
//! ```

use roundelay::api::{Options, serve};
use roundelay::handle::{Command, Handle};
use roundelay_core::kvs::{Copies, Reply, Version};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:9190")).await?;
    let (handle, mut commands) = Handle::new();
    tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            let (reply, answer) = match command {
                Command::Get { reply, .. } => (
                    reply,
                    Reply::Found {
                        value: vec![7; 100],
                        version: Version::ZERO,
                    },
                ),
                Command::Write { reply, .. } => (
                    reply,
                    Reply::Written {
                        version: Version::ZERO,
                        copies: Copies { have: 2, of: 3 },
                    },
                ),
                _ => continue,
            };
            let _ = reply.send(answer);
        }
    });
    println!("http://{}", listener.local_addr()?);
    serve(listener, handle, Options::default(), std::future::pending()).await
}
