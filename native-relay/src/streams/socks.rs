//! A SOCKS5 proxy (RFC 1928): hosts `NAME.PEER.roundelay` are services of members.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use fast_socks5::server::Socks5ServerProtocol;
use fast_socks5::util::target_addr::TargetAddr;
use fast_socks5::{ReplyError, Socks5Command};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, lookup_host};

use super::exit::{Exit, allowed};
use super::forward::{Forwarder, Target, join, serve_each};

/// The suffix of hosts that are services.
const SUFFIX: &str = ".roundelay";
/// How long a client may take to say what it wants, and a target to answer.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Serves a proxy from now on, until the node stops.
pub(crate) fn serve(listener: TcpListener, forwarder: Forwarder, exits: Vec<Exit>) {
    let proxy = Proxy { forwarder, exits };
    serve_each(listener, "the proxy".to_owned(), move |client, from| {
        let proxy = proxy.clone();
        async move {
            if let Err(why) = proxy.carry(client).await {
                tracing::debug!("a client of the proxy, {from}: {why}");
            }
        }
    });
}

#[derive(Clone, Debug)]
struct Proxy {
    forwarder: Forwarder,
    exits: Vec<Exit>,
}

/// What a client is led to.
trait Reached: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Reached for T {}

/// What a client is told, and what the log.
type Refusal = (ReplyError, String);

impl Proxy {
    async fn carry(&self, client: TcpStream) -> Result<(), String> {
        let words = |error: fast_socks5::server::SocksServerError| error.to_string();
        let asked = tokio::time::timeout(WAIT_MAX, async {
            let greeted = Socks5ServerProtocol::accept_no_auth(client).await?;
            greeted.read_command().await
        });
        let asked = asked.await.map_err(|_| "it did not say what it wants")?;
        let (protocol, command, target) = asked.map_err(words)?;
        let reached = match command {
            Socks5Command::TCPConnect => self.reach(&target).await,
            _ => Err((
                ReplyError::CommandNotSupported,
                "only connections".to_owned(),
            )),
        };
        match reached {
            Ok(reached) => {
                let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
                let client = protocol.reply_success(nowhere).await.map_err(words)?;
                join(client, reached).await;
                Ok(())
            }
            Err((reply, why)) => {
                protocol.reply_error(&reply).await.map_err(words)?;
                Err(why)
            }
        }
    }

    async fn reach(&self, target: &TargetAddr) -> Result<Box<dyn Reached>, Refusal> {
        match target {
            TargetAddr::Domain(host, port) => match service(host) {
                Some(target) => {
                    let target = target.ok_or_else(|| {
                        let why = format!("{host}: hosts are NAME.PEER{SUFFIX}");
                        (ReplyError::HostUnreachable, why)
                    })?;
                    self.open(&target).await
                }
                None => {
                    if self.exits.is_empty() {
                        return Err(closed(host));
                    }
                    let found = lookup_host((host.as_str(), *port)).await;
                    let found = found.map_err(|error| {
                        (ReplyError::HostUnreachable, format!("{host}: {error}"))
                    })?;
                    self.exit(Some(host), &found.collect::<Vec<_>>()).await
                }
            },
            TargetAddr::Ip(address) => self.exit(None, &[*address]).await,
        }
    }

    async fn open(&self, target: &Target) -> Result<Box<dyn Reached>, Refusal> {
        let opened = self.forwarder.open(target).await;
        let mut stream = opened.map_err(|why| (ReplyError::HostUnreachable, why))?;
        let answered = tokio::time::timeout(WAIT_MAX, stream.answered()).await;
        let answered = answered.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        match answered {
            Ok(()) => Ok(Box::new(stream)),
            Err(error) => Err((ReplyError::ConnectionRefused, format!("{target}: {error}"))),
        }
    }

    /// Connects to the very address that was looked at: a name may lead elsewhere the
    /// next time.
    async fn exit(
        &self,
        host: Option<&str>,
        found: &[SocketAddr],
    ) -> Result<Box<dyn Reached>, Refusal> {
        let allowed = allowed(&self.exits, host, found);
        let Some(address) = allowed.first() else {
            let named = found.first().map(ToString::to_string).unwrap_or_default();
            return Err(closed(host.unwrap_or(&named)));
        };
        let connected = tokio::time::timeout(WAIT_MAX, TcpStream::connect(address)).await;
        match connected {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err((ReplyError::ConnectionRefused, format!("{address}: {error}"))),
            Err(_) => Err((
                ReplyError::ConnectionTimeout,
                format!("{address}: no answer"),
            )),
        }
    }
}

fn closed(host: &str) -> Refusal {
    let why = format!("{host} is no exit; name it with --socks-exit to allow it");
    (ReplyError::ConnectionNotAllowed, why)
}

/// The service that a host names; the inner `None` if it is none, in our domain.
fn service(host: &str) -> Option<Option<Target>> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let named = host.strip_suffix(SUFFIX)?;
    let target = named.rsplit_once('.');
    Some(target.and_then(|(service, peer)| format!("{peer}/{service}").parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_our_domain_are_services() {
        let target = service("Web.Kitchen.roundelay.").unwrap().unwrap();
        assert_eq!(target.to_string(), "kitchen/web");
        let dotted = service("a.b.kitchen.roundelay").unwrap().unwrap();
        assert_eq!(dotted.to_string(), "kitchen/a.b");
        assert_eq!(service("kitchen.roundelay"), Some(None));
        assert_eq!(service("example.org"), None);
    }
}
