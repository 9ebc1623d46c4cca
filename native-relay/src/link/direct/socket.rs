//! The one UDP socket: many datagrams a system call, both ways.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::DirectCounters;
use crate::watch::watch;

/// Asked of the system for either direction; it grants what it allows.
const BUFFER: usize = 4 << 20;

/// From this receive buffer on, a burst of [`WIDE_WINDOW`] is never lost.
const BIG_BUFFER: usize = 1 << 20;

/// Bytes that a channel may have under way with usual buffers (measured: more
/// overflows them, and every such loss waits for SCTP's timer of a second).
const WINDOW: usize = 128 << 10;

/// The same with big buffers.
const WIDE_WINDOW: usize = 256 << 10;

/// Buffers of a receive call. With GRO each may take 64 KiB of datagrams.
const RECEIVE_BUFFERS: usize = 8;
const RECEIVE_BUFFER: usize = 64 << 10;

/// The kernel's limits for one segmented send: 64 KiB less headers.
const MAX_BATCH: usize = 65_000;

/// Bytes that wait for a socket that takes no more. Beyond it datagrams are
/// dropped, as a network would; SCTP sends them again.
const MAX_BACKLOG: usize = 1 << 20;

/// Datagrams of equal length to one place: one system call.
#[derive(Debug)]
struct Batch {
    to: SocketAddr,
    from: Option<IpAddr>,
    segment: usize,
    count: usize,
    bytes: Vec<u8>,
}

impl Batch {
    /// Whether a datagram may still join: all but the last have one length.
    fn takes(&self, to: SocketAddr, from: Option<IpAddr>, length: usize, limit: usize) -> bool {
        self.to == to
            && self.from == from
            && self.count < limit
            && length <= self.segment
            && self.bytes.len() == self.segment * self.count
            && self.bytes.len() + length <= MAX_BATCH
    }
}

/// Room for what a receive call brings.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// One piece, so that the system backs only what is ever filled.
    buffer: Vec<u8>,
    metas: [RecvMeta; RECEIVE_BUFFERS],
    filled: usize,
}

/// One datagram that came in.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    /// Who sent it.
    pub(super) from: SocketAddr,
    /// The address of ours to which it was sent.
    pub(super) to: SocketAddr,
    /// The datagram.
    pub(super) bytes: &'a [u8],
}

impl Inbox {
    fn new() -> Self {
        Self {
            buffer: vec![0; RECEIVE_BUFFER * RECEIVE_BUFFERS],
            ..Self::default()
        }
    }

    /// What the last call brought; `local` is the address of the socket.
    pub(super) fn datagrams(&self, local: SocketAddr) -> impl Iterator<Item = Incoming<'_>> {
        let buffers = self.buffer.chunks(RECEIVE_BUFFER);
        let filled = buffers.zip(&self.metas).take(self.filled);
        filled.flat_map(move |(buffer, meta)| {
            let ip = match meta.dst_ip {
                Some(ip) if local.ip().is_unspecified() => ip.to_canonical(),
                _ => local.ip(),
            };
            let bytes = &buffer[..meta.len.min(buffer.len())];
            bytes.chunks(meta.stride.max(1)).map(move |bytes| Incoming {
                from: canonical(meta.addr),
                to: SocketAddr::new(ip, local.port()),
                bytes,
            })
        })
    }
}

/// The socket with what waits to leave by it.
#[derive(Debug)]
pub(super) struct Socket {
    /// Watched for what comes in alone: to hear of room to send is one
    /// wake-up more for each datagram.
    io: AsyncFd<RawSocket>,
    /// The same socket, watched for room while something waits for that.
    room: Option<AsyncFd<RawSocket>>,
    state: UdpSocketState,
    local: SocketAddr,
    window: usize,
    batch: Option<Batch>,
    backlog: VecDeque<Batch>,
    backlog_bytes: usize,
    spare: Vec<u8>,
    counters: DirectCounters,
}

impl Socket {
    /// Binds; must be called within a tokio runtime.
    pub(super) fn bind(address: SocketAddr) -> io::Result<(Self, Inbox)> {
        let raw = RawSocket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            raw.set_only_v6(false)?;
        }
        // A refusal costs speed and nothing else.
        let _ = raw.set_recv_buffer_size(BUFFER);
        let _ = raw.set_send_buffer_size(BUFFER);
        raw.set_nonblocking(true)?;
        raw.bind(&address.into())?;
        let granted = raw.recv_buffer_size().unwrap_or(0);
        let local = raw.local_addr()?.as_socket();
        let socket = Self {
            state: UdpSocketState::new(UdpSockRef::from(&raw))?,
            local: local.ok_or(ErrorKind::AddrNotAvailable)?,
            window: if granted >= BIG_BUFFER {
                WIDE_WINDOW
            } else {
                WINDOW
            },
            io: watch(raw, Interest::READABLE)?,
            room: None,
            batch: None,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            spare: Vec::new(),
            counters: DirectCounters::default(),
        };
        Ok((socket, Inbox::new()))
    }

    /// The address it is bound to.
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The bytes that a channel may have under way.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// What came and went.
    pub(super) fn counters(&self) -> DirectCounters {
        self.counters
    }

    /// Waits until there is something to receive, or room for what waits.
    pub(super) async fn ready(&self) -> io::Result<()> {
        let room = async {
            match &self.room {
                Some(room) => room.writable().await.map(drop),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            came = self.io.readable() => came.map(drop),
            there_is_room = room => there_is_room,
        }
    }

    /// One receive call. Answers whether there may be more.
    pub(super) fn receive(&self, inbox: &mut Inbox) -> bool {
        inbox.filled = 0;
        let mut buffers = inbox.buffer.chunks_mut(RECEIVE_BUFFER);
        let mut slices: [IoSliceMut<'_>; RECEIVE_BUFFERS] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        let metas = &mut inbox.metas;
        let more = self.io.try_io(Interest::READABLE, |io| {
            inbox.filled = self.state.recv(UdpSockRef::from(io), &mut slices, metas)?;
            // Who brings fewer than fit has brought all: what comes later is
            // told of anew, and another call would only hear that.
            if inbox.filled < RECEIVE_BUFFERS.min(quinn_udp::BATCH_SIZE) {
                return Err(ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        more.is_ok()
    }

    /// Queues a datagram; it leaves with [`Socket::flush`] at the latest.
    pub(super) fn send(&mut self, from: IpAddr, to: SocketAddr, bytes: &[u8]) {
        self.counters.datagrams_out += 1;
        self.counters.datagram_bytes_out += bytes.len() as u64;
        let from = self.local.ip().is_unspecified().then_some(from);
        let limit = self.state.max_gso_segments();
        if let Some(batch) = &mut self.batch
            && batch.takes(to, from, bytes.len(), limit)
        {
            batch.count += 1;
            batch.bytes.extend_from_slice(bytes);
            return;
        }
        self.close_batch();
        let mut buffer = std::mem::take(&mut self.spare);
        buffer.clear();
        buffer.extend_from_slice(bytes);
        self.batch = Some(Batch {
            to,
            from,
            segment: bytes.len(),
            count: 1,
            bytes: buffer,
        });
    }

    /// Sends all that the system takes.
    pub(super) fn flush(&mut self) {
        while let Some(batch) = self.backlog.pop_front() {
            if !self.transmit(&batch) {
                self.backlog.push_front(batch);
                break;
            }
            self.backlog_bytes -= batch.bytes.len();
        }
        self.close_batch();
        if self.backlog.is_empty() {
            self.room = None;
        } else if let Some(room) = &self.room {
            // The room that it told of was not enough.
            let forget = |_: &_| Err::<(), _>(ErrorKind::WouldBlock.into());
            let _ = room.try_io(Interest::WRITABLE, forget);
        } else {
            // Where it cannot be watched, what comes in next, or a timer,
            // brings the next try.
            let copy = self.io.get_ref().try_clone();
            let room = copy.and_then(|copy| watch(copy, Interest::WRITABLE));
            self.room = room.ok();
        }
    }

    fn close_batch(&mut self) {
        let Some(batch) = self.batch.take() else {
            return;
        };
        if self.backlog.is_empty() && self.transmit(&batch) {
            self.spare = batch.bytes;
        } else if self.backlog_bytes + batch.bytes.len() <= MAX_BACKLOG {
            self.backlog_bytes += batch.bytes.len();
            self.backlog.push_back(batch);
        } else {
            self.counters.unsent_datagrams += batch.count as u64;
        }
    }

    /// Sends a batch; `false` if the socket takes no more for now.
    fn transmit(&mut self, batch: &Batch) -> bool {
        let segments = (batch.count > 1).then_some(batch.segment);
        let Err(error) = self.try_transmit(batch, &batch.bytes, segments) else {
            return true;
        };
        if error.kind() == ErrorKind::WouldBlock {
            return false;
        }
        if segments.is_none() {
            self.counters.unsent_datagrams += 1;
            return true;
        }
        // The interface may not do segmentation, of which quinn-udp has taken
        // note; these datagrams go one by one.
        for bytes in batch.bytes.chunks(batch.segment) {
            let failed = self.try_transmit(batch, bytes, None).is_err();
            self.counters.unsent_datagrams += u64::from(failed);
        }
        true
    }

    fn try_transmit(
        &self,
        batch: &Batch,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.on_wire(batch.to),
            ecn: None,
            contents,
            segment_size,
            src_ip: batch.from,
        };
        let io = UdpSockRef::from(self.io.get_ref());
        self.state.try_send(io, &transmit)
    }

    /// A socket for both families names IPv4 addresses in IPv6's way.
    fn on_wire(&self, to: SocketAddr) -> SocketAddr {
        match (self.local.is_ipv6(), to.ip()) {
            (true, IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }
}

/// The plain form of an address that came from the system: an IPv4 address as
/// such, and an IPv6 address without scope and flow.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
