//! A STUN server that tells peers their public address (RFC 8489), on UDP.
//!
//! Binding requests alone, without authentication: section 12's basic server.
//! Our own hundred lines: of the crates, `stun_codec` brings five more for its
//! codec framework, and `rtc-stun` belongs to `link/direct`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::Instant;

/// Answers a second, from all sources together; what comes beyond is dropped.
/// An answer is hardly longer than its request, so that a forged source gains
/// an attacker nothing.
pub const RESPONSES_PER_SECOND_MAX: u32 = 2_000;

/// A longer datagram is no request that we could answer.
const REQUEST_LEN_MAX: usize = 1_280;

const HEADER_LEN: usize = 20;
const MAGIC_COOKIE: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_RESPONSE: u16 = 0x0101;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Answers STUN requests until `shutdown` is ready. Binding is the caller's.
///
/// # Errors
/// When the socket cannot be read.
pub async fn serve(socket: UdpSocket, shutdown: impl Future<Output = ()>) -> std::io::Result<()> {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut bucket = TokenBucket::full(Instant::now());
    let mut datagram = [0; REQUEST_LEN_MAX];
    let mut response = Vec::with_capacity(64);
    loop {
        let received = tokio::select! {
            () = &mut shutdown => return Ok(()),
            received = socket.recv_from(&mut datagram) => received,
        };
        let (len, from) = match received {
            Ok(received) => received,
            // What an earlier answer met on its way (ICMP) is reported here.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => continue,
            Err(error) => return Err(error),
        };
        response.clear();
        if respond(&datagram[..len], from, &mut response) && bucket.take(Instant::now()) {
            // A full send buffer loses the answer, as the network might.
            let _ = socket.try_send_to(&response, from);
        }
    }
}

/// Appends the answer to a datagram to `out`; `false`, and nothing appended,
/// when it is no well-formed binding request.
pub fn respond(datagram: &[u8], from: SocketAddr, out: &mut Vec<u8>) -> bool {
    let Some(transaction) = parse(datagram) else {
        return false;
    };
    // A dual-stack socket shows IPv4 peers as mapped addresses.
    let (family, address) = match from.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let [cookie_high, cookie_low, ..] = MAGIC_COOKIE;
    let value_len = 4 + address.len() as u16;
    out.extend(BINDING_RESPONSE.to_be_bytes());
    out.extend((4 + value_len).to_be_bytes());
    out.extend(MAGIC_COOKIE);
    out.extend(transaction);
    out.extend(XOR_MAPPED_ADDRESS.to_be_bytes());
    out.extend(value_len.to_be_bytes());
    out.extend([0, family]);
    let port = from.port() ^ u16::from_be_bytes([cookie_high, cookie_low]);
    out.extend(port.to_be_bytes());
    let mask = MAGIC_COOKIE.iter().chain(transaction);
    out.extend(address.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    true
}

/// The transaction id of a well-formed binding request. Its attributes are
/// walked, and mean nothing to us.
fn parse(datagram: &[u8]) -> Option<&[u8; 12]> {
    let (header, mut attributes) = datagram.split_first_chunk::<HEADER_LEN>()?;
    let [kind_high, kind_low, len_high, len_low, a, b, c, d, ..] = *header;
    let len = usize::from(u16::from_be_bytes([len_high, len_low]));
    if u16::from_be_bytes([kind_high, kind_low]) != BINDING_REQUEST
        || [a, b, c, d] != MAGIC_COOKIE
        || len != attributes.len()
        || len % 4 != 0
    {
        return None;
    }
    while let Some(([_, _, len @ ..], rest)) = attributes.split_first_chunk::<4>() {
        let padded = usize::from(u16::from_be_bytes(*len)).next_multiple_of(4);
        attributes = rest.get(padded..)?;
    }
    datagram.get(8..)?.first_chunk()
}

/// Lets [`RESPONSES_PER_SECOND_MAX`] pass, and saves up one second's worth.
struct TokenBucket {
    tokens: f64,
    filled: Instant,
}

impl TokenBucket {
    fn full(now: Instant) -> Self {
        Self {
            tokens: f64::from(RESPONSES_PER_SECOND_MAX),
            filled: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let rate = f64::from(RESPONSES_PER_SECOND_MAX);
        let passed: Duration = now.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + passed.as_secs_f64() * rate).min(rate);
        self.filled = now;
        let passes = self.tokens >= 1.0;
        if passes {
            self.tokens -= 1.0;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769's transaction id.
    const TRANSACTION: [u8; 12] = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

    fn request(attributes: &[u8]) -> Vec<u8> {
        let len = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        [&[0, 1], &len, &MAGIC_COOKIE[..], &TRANSACTION, attributes].concat()
    }

    fn answer(datagram: &[u8], from: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let answered = respond(datagram, from.parse().unwrap(), &mut out);
        assert_eq!(answered, !out.is_empty());
        answered.then_some(out)
    }

    #[test]
    fn addresses_are_those_of_rfc_5769() {
        let head = |len| [&[1, 1, 0, len], &MAGIC_COOKIE[..], &TRANSACTION].concat();
        let four = b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43";
        let expected = [&head(12)[..], four].concat();
        for from in ["192.0.2.1:32853", "[::ffff:192.0.2.1]:32853"] {
            assert_eq!(answer(&request(b""), from), Some(expected.clone()));
        }
        let six = b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";
        let from = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
        let expected = [&head(24)[..], six].concat();
        assert_eq!(
            answer(&request(b"\x80\x22\0\x03abc\0"), from),
            Some(expected)
        );
    }

    #[test]
    fn everything_else_is_dropped() {
        let good = request(b"\x80\x22\0\x04test");
        assert!(answer(&good, "192.0.2.1:1").is_some());
        for len in 0..good.len() {
            assert_eq!(answer(&good[..len], "192.0.2.1:1"), None, "{len} bytes");
        }
        // Kind, length, cookie, and the length of an attribute.
        for at in [0, 1, 2, 3, 4, 7, 22, 23] {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            assert_eq!(answer(&bad, "192.0.2.1:1"), None, "byte {at}");
        }
        assert_eq!(answer(&[good, vec![0]].concat(), "192.0.2.1:1"), None);
        assert_eq!(answer(&request(b"\0\x06\0"), "192.0.2.1:1"), None);
        assert_eq!(answer(&[0xff; REQUEST_LEN_MAX], "192.0.2.1:1"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_bounded() {
        let mut bucket = TokenBucket::full(Instant::now());
        let taken = (0..10_000).filter(|_| bucket.take(Instant::now())).count();
        assert_eq!(taken, RESPONSES_PER_SECOND_MAX as usize);
        tokio::time::advance(Duration::from_millis(100)).await;
        let taken = (0..10_000).filter(|_| bucket.take(Instant::now())).count();
        assert_eq!(taken, RESPONSES_PER_SECOND_MAX as usize / 10);
    }

    #[tokio::test]
    async fn a_socket_answers_until_the_shutdown() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(serve(server, async {
            let _ = stopped.await;
        }));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"garbage", address).await.unwrap();
        client.send_to(&request(b""), address).await.unwrap();
        let mut datagram = [0; 100];
        let (len, _) = client.recv_from(&mut datagram).await.unwrap();
        let expected = answer(&request(b""), &client.local_addr().unwrap().to_string());
        assert_eq!(Some(datagram[..len].to_vec()), expected);
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
    }
}
