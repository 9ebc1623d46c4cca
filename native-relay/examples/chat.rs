//! Two members of a ring talk by a stream.
//!
//! ```sh
//! cargo run -p roundelay --example chat -- http://127.0.0.1:9999           # prints its id
//! cargo run -p roundelay --example chat -- http://127.0.0.1:9999 ID        # calls it
//! ```

use std::error::Error;

use roundelay::streams::Stream;
use roundelay::{Peer, PeerConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, stdin};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let relay = args
        .next()
        .ok_or("name a relay, as in http://127.0.0.1:9999")?;
    let peer = Peer::join(PeerConfig::by(relay.parse()?)).await?;
    let stream = match args.next() {
        Some(id) => peer.open(id.parse()?, "chat").await?,
        None => {
            println!("{}", peer.id());
            let mut chats = peer.accept("chat").await?;
            let offer = chats.next().await.ok_or("nobody called")?;
            println!("{} calls", offer.peer());
            offer.accept().await?
        }
    };
    talk(stream).await?;
    peer.leave().await;
    Ok(())
}

/// Sends what is typed, and prints what comes, until either side has ended.
async fn talk(stream: Stream) -> Result<(), Box<dyn Error>> {
    let (heard, mut said) = tokio::io::split(stream);
    let (mut typed, mut heard) = (
        BufReader::new(stdin()).lines(),
        BufReader::new(heard).lines(),
    );
    loop {
        tokio::select! {
            line = typed.next_line() => match line? {
                Some(line) => said.write_all(format!("{line}\n").as_bytes()).await?,
                None => break,
            },
            line = heard.next_line() => match line? {
                Some(line) => println!("{line}"),
                None => break,
            },
        }
    }
    Ok(said.shutdown().await?)
}
