//! A node that keeps its keys in a map, and a client that sends what it is
//! told to, byte by byte.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use roundelay::api::{Options, serve};
use roundelay::handle::{Command, Handle};
use roundelay_core::NodeId;
use roundelay_core::kvs::{
    Change, Condition, Copies, Key, List, News, Page, Reply, RequestError, Token, Version, Watch,
};
use roundelay_core::status::{
    Class, LinkKind, LinkStatus, Location, MemberState, MemberStatus, RingStatus, Status,
    StoreStatus,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

/// Long, since other tests may have the processors.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn id(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

/// The fake: keys under `fail/` end as their names say, and `held` ones when
/// the test says so.
pub(crate) struct Node {
    values: BTreeMap<Key, (Vec<u8>, Version)>,
    writes: u64,
    ready: watch::Receiver<bool>,
    held: Held,
    watches: Vec<oneshot::Sender<Reply>>,
}

/// A client's HTTP/2 connection, and what came by one.
type Sender = SendRequest<Full<Bytes>>;
type Responses = JoinSet<hyper::Result<hyper::Response<Incoming>>>;

/// The requests that wait for the test.
type Held = watch::Sender<Vec<oneshot::Sender<Reply>>>;

impl Node {
    pub(crate) async fn start(options: Options) -> Client {
        let (client, shutdown, _) = Self::start_with_shutdown(options).await;
        // Until the test's runtime ends.
        std::mem::forget(shutdown);
        client
    }

    pub(crate) async fn start_with_shutdown(
        options: Options,
    ) -> (Client, oneshot::Sender<()>, JoinHandle<std::io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (handle, commands) = Handle::new();
        let (ready, receiver) = watch::channel(true);
        let held = Held::default();
        let node = Self {
            values: BTreeMap::new(),
            writes: 0,
            ready: receiver,
            held: held.clone(),
            watches: Vec::new(),
        };
        tokio::spawn(node.run(commands));
        let (shutdown, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, handle, options, async {
            let _ = stopped.await;
        }));
        let client = Client {
            address,
            ready,
            held,
        };
        (client, shutdown, served)
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Get { key, reply, .. } => self.get(&key, reply),
                Command::Write {
                    key,
                    value,
                    terms,
                    reply,
                } => match terms.condition {
                    Some(condition) => self.compare_and_set(key, condition, value, reply),
                    None => self.write(key, value, reply),
                },
                Command::List { list, reply } => drop(reply.send(self.list(&list))),
                Command::Watch { watch, reply } => self.watch(&watch, reply),
                Command::Status { reply } => drop(reply.send(self.status())),
                Command::Ring { reply } => drop(reply.send(ring())),
                Command::Locate { key, reply } => drop(reply.send(location(&key))),
                Command::Evict { id: of, reply } => drop(reply.send(evicted(of))),
                Command::Leave { reply } => drop(reply.send(())),
            }
        }
    }

    fn get(&mut self, key: &Key, reply: oneshot::Sender<Reply>) {
        match key.as_str() {
            "held" => self.held.send_modify(|held| held.push(reply)),
            "fail/stopped" => drop(reply),
            _ => {
                let found = self.values.get(key).cloned();
                let found = found.map(|(value, version)| Reply::Found { value, version });
                let _ = reply.send(found.unwrap_or(Reply::Missing));
            }
        }
    }

    fn list(&self, list: &List) -> Reply {
        if list.bucket() == "fail" {
            let missing = vec![id(9)];
            return Reply::Failed(RequestError::Unavailable { missing });
        }
        let values = self.values.iter().filter(|(key, _)| list.contains(key));
        let mut keys = values.map(|(key, (_, version))| (key.clone(), *version));
        let page: Vec<(Key, Version)> = keys.by_ref().take(list.limit()).collect();
        let next = keys
            .next()
            .and_then(|_| page.last())
            .map(|(key, _)| key.clone());
        Reply::Listed(Page { keys: page, next })
    }

    /// What is there, then the same again as changes, then nothing for ever.
    fn watch(&mut self, watch: &Watch, reply: oneshot::Sender<Reply>) {
        let [begun, told] = [token(1), token(2)];
        let again = |token: &Token| watch.clone().with_token(token.clone()) == *watch;
        if again(&told) {
            return self.watches.push(reply);
        }
        let is_new = !again(&begun);
        let changes = self.values.iter().map(|(key, (_, version))| Change {
            key: key.clone(),
            version: *version,
            deleted: !is_new,
        });
        let news = News {
            reset: is_new,
            changes: changes.collect(),
            token: if is_new { begun } else { told },
        };
        let _ = reply.send(Reply::Watched(news));
    }

    fn compare_and_set(
        &mut self,
        key: Key,
        condition: Condition,
        value: Option<Vec<u8>>,
        reply: oneshot::Sender<Reply>,
    ) {
        let current = self.values.get(&key).map(|(_, version)| *version);
        let wanted = match condition {
            Condition::Absent => None,
            Condition::Version(version) => Some(version),
        };
        if current == wanted {
            return self.write(key, value, reply);
        }
        let error = RequestError::ConditionFailed { current };
        let _ = reply.send(Reply::Failed(error));
    }

    fn write(&mut self, key: Key, value: Option<Vec<u8>>, reply: oneshot::Sender<Reply>) {
        let error = match key.as_str() {
            "fail/unavailable" => RequestError::Unavailable {
                missing: vec![id(9)],
            },
            "fail/unknown" => RequestError::OutcomeUnknown,
            "fail/too-large" => RequestError::TooLarge,
            "fail/full" => RequestError::Full,
            "fail/busy" => RequestError::Busy,
            "fail/not-joined" => RequestError::NotJoined,
            "fail/conflict" => RequestError::Conflict,
            "fail/stopped" => return,
            _ => {
                self.writes += 1;
                let version: Version = format!("{:x}-1", self.writes).parse().unwrap();
                match value {
                    Some(value) => self.values.insert(key, (value, version)),
                    None => self.values.remove(&key),
                };
                let copies = Copies { have: 2, of: 3 };
                let _ = reply.send(Reply::Written { version, copies });
                return;
            }
        };
        let _ = reply.send(Reply::Failed(error));
    }

    fn status(&self) -> Status {
        Status {
            id: id(1),
            epoch: 7,
            class: Class::Durable,
            name: "fake".into(),
            network: "default".into(),
            ring_id: Some("ring".into()),
            ready: *self.ready.borrow(),
            predecessor: Some(id(2)),
            successors: vec![id(2)],
            links: vec![LinkStatus {
                peer: id(2),
                kind: LinkKind::Direct,
                rtt_ms: Some(0.5),
                bytes_in: 10,
                bytes_out: 20,
            }],
            relays: Vec::new(),
            store: StoreStatus {
                records: 12,
                ..StoreStatus::default()
            },
            rate: Default::default(),
            counters: [("frames_bad", 3)].into_iter().collect(),
        }
    }
}

/// A token of a watch.
pub(crate) fn token(number: u8) -> Token {
    format!("01{number:02x}02").parse().unwrap()
}

/// Of the members only one is gone: 8 answers, 9 is evicted.
fn evicted(of: NodeId) -> Reply {
    match of {
        _ if of == id(8) => Reply::Failed(RequestError::Answers),
        _ if of == id(9) => Reply::Evicted,
        _ => Reply::Missing,
    }
}

fn ring() -> RingStatus {
    RingStatus {
        ring_id: Some("ring".into()),
        members: vec![MemberStatus {
            id: id(1),
            name: "fake".into(),
            class: Class::Durable,
            state: MemberState::Alive,
        }],
    }
}

fn location(key: &Key) -> Location {
    Location {
        slot: key.slot().number(),
        view: 1,
        voters: vec![id(1)],
        mirrors: Vec::new(),
    }
}

/// A client of one fake.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    ready: watch::Sender<bool>,
    held: Held,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of an error, which must come with words.
    pub(crate) fn code(&self) -> String {
        let body = self.json();
        assert!(body["message"].as_str().unwrap().len() > 10, "{body}");
        body["error"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) async fn set_ready(&self, ready: bool) {
        self.ready.send(ready).unwrap();
    }

    /// Waits until so many requests are held.
    pub(crate) async fn wait_held(&self, count: usize) {
        let mut held = self.held.subscribe();
        let held = held.wait_for(|held| held.len() >= count);
        let held = tokio::time::timeout(DEADLINE, held).await;
        assert_eq!(held.expect("in time").unwrap().len(), count);
    }

    /// Answers all requests that are held: no such key.
    pub(crate) fn release(&self) {
        self.held.send_modify(|held| {
            for reply in held.drain(..) {
                let _ = reply.send(Reply::Missing);
            }
        });
    }

    /// Sends a request line and headers, with `Host` and the body's length
    /// added.
    pub(crate) async fn request(&self, head: &str, body: &[u8]) -> Answer {
        let len = body.len();
        let head = format!("{head}\r\nHost: HOST\r\nContent-Length: {len}\r\n\r\n");
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    /// Sends bytes, `HOST` replaced by the address, and reads one answer.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head_len = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let (head, body) = bytes.split_at(head_len.unwrap());
        let head = std::str::from_utf8(head).map(|head| {
            let head = head.replace("HOST", &self.address.to_string());
            head.into_bytes()
        });
        let bytes = [head.unwrap_or_default(), body.to_vec()].concat();
        // The server may answer and close before it has read all.
        let (mut reader, mut writer) = stream.split();
        let mut received = Vec::new();
        let is_head = bytes.starts_with(b"HEAD");
        let read = read_answer(&mut reader, &mut received, is_head);
        let write = async {
            let _ = writer.write_all(&bytes).await;
            std::future::pending::<()>().await;
        };
        let answer = tokio::time::timeout(DEADLINE, async {
            tokio::select! { answer = read => answer, () = write => unreachable!() }
        });
        answer.await.expect("an answer in time")
    }

    /// Sends a request line and headers, and reads until all these words came.
    pub(crate) async fn stream(&self, head: &str, words: &[&str]) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("{head}\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        let read = async {
            loop {
                let text = String::from_utf8_lossy(&received).into_owned();
                if words.iter().all(|word| text.contains(word)) {
                    return text;
                }
                let len = stream.read_buf(&mut received).await.unwrap();
                assert!(len > 0, "closed after {text}");
            }
        };
        let text = tokio::time::timeout(DEADLINE, read).await;
        (
            stream,
            text.unwrap_or_else(|_| panic!("not all of {words:?} came")),
        )
    }

    /// A request by HTTP/2: status and body.
    pub(crate) async fn http2(
        &self,
        method: &str,
        host: &str,
        path: &str,
        body: &str,
    ) -> (u16, String) {
        let mut sender = self.http2_connection().await;
        let request = hyper::Request::builder()
            .method(method)
            .uri(format!("http://{host}{path}"))
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// So many gets on one connection, under way as long as what this returns
    /// lives.
    pub(crate) async fn http2_held(&self, path: &str, count: usize) -> (Sender, Responses) {
        let mut sender = self.http2_connection().await;
        let mut held = JoinSet::new();
        for _ in 0..count {
            sender.ready().await.unwrap();
            let uri = format!("http://{}{path}", self.address);
            let request = hyper::Request::get(uri).body(Full::default()).unwrap();
            held.spawn(sender.send_request(request));
        }
        (sender, held)
    }

    async fn http2_connection(&self) -> Sender {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connected = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = connected.unwrap();
        tokio::spawn(connection);
        sender
    }
}

async fn read_answer(
    reader: &mut (impl AsyncReadExt + Unpin),
    received: &mut Vec<u8>,
    is_head: bool,
) -> Answer {
    loop {
        let end = received.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8(received[..end].to_vec()).unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let mut answer = Answer {
                status,
                head,
                body: received[end + 4..].to_vec(),
            };
            let len = answer
                .header("content-length")
                .map_or(0, |len| len.parse().unwrap());
            let whole = is_head || answer.body.len() >= len;
            if whole {
                answer.body.truncate(if is_head { 0 } else { len });
                return answer;
            }
        }
        if reader.read_buf(received).await.unwrap() == 0 {
            panic!("closed after {:?}", String::from_utf8_lossy(received));
        }
    }
}
