//! Services of one node, reached through another: real processes, real sockets.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{DEADLINE, Ring, alone, free_port, http, wait_until};

/// A service of this process; it serves each connection on a thread.
fn service(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Sends back what comes, until that ends.
fn echo(mut stream: TcpStream) {
    let mut copy = stream.try_clone().unwrap();
    let _ = std::io::copy(&mut stream, &mut copy);
    let _ = copy.shutdown(Shutdown::Write);
}

/// Speaks first, and then says what it heard when that has ended.
fn greeter(mut stream: TcpStream) {
    stream.write_all(b"220 ready\n").unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    write!(stream, "heard {}", heard.len()).unwrap();
}

/// A relay, a node that exposes, and one whose ports lead there.
struct Streams {
    ring: Ring,
    ports: Vec<u16>,
}

/// `exposed`: names and addresses of the first node; a port leads to each of `wanted`.
fn streams(exposed: &[(&str, SocketAddr)], wanted: &[&str]) -> Streams {
    let mut ring = Ring::start(0);
    let relay = format!("http://127.0.0.1:{}", ring.listen);
    let mut args = vec!["node", "--relay", &relay, "--name", "server"];
    let mut exposed: Vec<String> = exposed
        .iter()
        .map(|(name, address)| format!("{name}={address}"))
        .collect();
    // One that only the relay may reach.
    let id = ring.members[0].status().unwrap()["id"].clone();
    exposed.push(format!("kept={},{}", service(echo), id.as_str().unwrap()));
    for exposed in &exposed {
        args.extend(["--expose", exposed]);
    }
    ring.add("server", &args);
    let ports: Vec<u16> = wanted.iter().map(|_| free_port()).collect();
    let forward: Vec<String> = ports
        .iter()
        .zip(wanted)
        .map(|(port, name)| format!("127.0.0.1:{port}=server/{name}"))
        .collect();
    let mut args = vec!["node", "--relay", &relay, "--name", "client"];
    for forward in &forward {
        args.extend(["--forward", forward]);
    }
    ring.add("client", &args);
    ring.wait_whole();
    Streams { ring, ports }
}

impl Streams {
    fn connect(&self, index: usize) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.ports[index])).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }
}

/// Writes numbers from one on a thread, and ends.
fn write_all(mut stream: TcpStream, len: usize) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let bytes: Vec<u8> = (0..len).map(|at| (at * 7 / 3) as u8).collect();
        for chunk in bytes.chunks(40_009) {
            stream.write_all(chunk).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
    })
}

#[test]
fn a_port_leads_to_a_service_of_another_node() {
    let _alone = alone();
    let all = [("echo", service(echo)), ("greeter", service(greeter))];
    let streams = streams(&all, &["echo", "greeter"]);

    let mut client = streams.connect(0);
    let writer = write_all(client.try_clone().unwrap(), 20 << 20);
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    writer.join().unwrap();
    assert_eq!(back.len(), 20 << 20);
    assert!(
        back.iter()
            .enumerate()
            .all(|(at, byte)| *byte == (at * 7 / 3) as u8)
    );

    // The server speaks first, and one half ends before the other.
    let mut client = streams.connect(1);
    let mut ready = [0; 10];
    client.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"220 ready\n");
    client.write_all(b"some words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "heard 10");
}

/// Whether the other end breaks the connection without a byte.
fn is_refused(mut client: TcpStream) -> bool {
    let _ = client.write_all(b"hello");
    let read = client.read(&mut [0; 1]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[test]
fn what_is_not_exposed_is_not_reached_and_hurts_nobody_else() {
    let _alone = alone();
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let all = [("echo", service(echo)), ("dead", nobody)];
    let streams = streams(&all, &["echo", "nothing", "dead", "kept"]);
    let mut good = streams.connect(0);
    let mut word = [0; 4];
    good.write_all(b"good").unwrap();
    good.read_exact(&mut word).unwrap();
    assert!(is_refused(streams.connect(1)), "no such service");
    assert!(is_refused(streams.connect(2)), "a service that is down");
    assert!(is_refused(streams.connect(3)), "a service for others");
    good.write_all(b"food").unwrap();
    good.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"food");
}

#[test]
fn many_streams_at_once_and_a_reader_that_stands_still() {
    let _alone = alone();
    let all = [("echo", service(echo))];
    let streams = streams(&all, &["echo"]);
    // It writes more than all windows hold, and reads nothing.
    let mut stuck = streams.connect(0);
    stuck.set_nonblocking(true).unwrap();
    let mut sent = 0;
    wait_until("a stream to be full", DEADLINE, || {
        let before = sent;
        while let Ok(len) = stuck.write(&[7; 65_536]) {
            sent += len;
        }
        sent == before && sent > 0
    });
    let clients: Vec<_> = (0..32_u8)
        .map(|number| {
            let mut client = streams.connect(0);
            std::thread::spawn(move || {
                for round in 0..50_u8 {
                    let sent = [number ^ round; 900];
                    client.write_all(&sent).unwrap();
                    let mut back = [0; 900];
                    client.read_exact(&mut back).unwrap();
                    assert_eq!(back, sent);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    // It reads all of it at last.
    stuck.set_nonblocking(false).unwrap();
    stuck.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stuck.read_to_end(&mut back).unwrap();
    assert_eq!(back.len(), sent);
}

#[test]
fn a_peer_that_is_killed_ends_its_streams() {
    let _alone = alone();
    let all = [("echo", service(echo))];
    let mut streams = streams(&all, &["echo"]);
    let mut client = streams.connect(0);
    client.write_all(b"word").unwrap();
    let mut word = [0; 4];
    client.read_exact(&mut word).unwrap();
    streams.ring.members[1].kill_9();
    let begun = std::time::Instant::now();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let read = client.read(&mut word);
    let took = begun.elapsed();
    println!("told after {took:?}");
    assert!(read.is_err(), "{read:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    // It comes back, and is reached again by the same port.
    streams.ring.members[1].start();
    wait_until("the service to be back", DEADLINE, || {
        let mut client = streams.connect(0);
        client.write_all(b"back").is_ok() && client.read_exact(&mut word).is_ok()
    });
    assert_eq!(&word, b"back");
    let healthy = http("GET", streams.ring.members[0].http, "/healthz", b"");
    assert_eq!(healthy.status, 200);
}

#[test]
fn commands_are_nodes_for_one_purpose_and_peers_have_names_of_ones_own() {
    let _alone = alone();
    let mut ring = Ring::start(0);
    let relay = format!("http://127.0.0.1:{}", ring.listen);
    let service = format!("greeter={}", service(greeter));
    ring.add("server", &["expose", &service, "--relay", &relay]);
    ring.wait_whole();
    let id = ring.members[1].status().unwrap()["id"].clone();
    let id = id.as_str().unwrap();
    let (port, proxy) = (free_port(), free_port());
    // It is called that by nobody but its user.
    let peer = format!("box={id}");
    let lead = format!("127.0.0.1:{port}=box/greeter");
    let forward = ["forward", &lead, "--relay", &relay, "--peer", &peer];
    ring.add("forward", &forward);
    let file = ring.dir.path().join("socks.toml");
    std::fs::write(&file, format!("relay = {relay:?}\npeer = [{peer:?}]\n")).unwrap();
    let (file, listen) = (file.to_str().unwrap(), format!("127.0.0.1:{proxy}"));
    ring.add("socks", &["socks", "--listen", &listen, "--config", file]);
    ring.wait_whole();
    let mut led = TcpStream::connect(("127.0.0.1", port)).unwrap();
    led.set_read_timeout(Some(DEADLINE)).unwrap();
    let (reply, proxied) = socks(proxy, "greeter.Box.roundelay", 80);
    assert_eq!(reply, SUCCEEDED);
    for stream in [&mut led, &mut { proxied }] {
        let mut ready = [0; 10];
        stream.read_exact(&mut ready).unwrap();
        assert_eq!(&ready, b"220 ready\n");
    }
}

/// Asks a SOCKS5 proxy for a host; its answer, and the connection.
fn socks(proxy: u16, host: &str, port: u16) -> (u8, TcpStream) {
    let mut stream = TcpStream::connect(("127.0.0.1", proxy)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).unwrap();
    assert_eq!(method, [5, 0]);
    let mut request = vec![5, 1, 0];
    match host.parse::<std::net::Ipv4Addr>() {
        Ok(address) => {
            request.push(1);
            request.extend(address.octets());
        }
        Err(_) => {
            request.extend([3, host.len() as u8]);
            request.extend(host.as_bytes());
        }
    }
    request.extend(port.to_be_bytes());
    stream.write_all(&request).unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..4], [5, reply[1], 0, 1]);
    (reply[1], stream)
}

/// Replies of RFC 1928.
const SUCCEEDED: u8 = 0;
const NOT_ALLOWED: u8 = 2;
const UNREACHABLE: u8 = 4;
const REFUSED: u8 = 5;

#[test]
fn a_proxy_leads_to_services_and_to_what_is_named() {
    let _alone = alone();
    let web = service(greeter);
    let mut streams = streams(&[("web", web)], &[]);
    let relay = format!("http://127.0.0.1:{}", streams.ring.listen);
    let (open, closed) = (free_port(), free_port());
    let (listen, exit) = (
        format!("127.0.0.1:{open}"),
        format!("127.0.0.1:{}", web.port()),
    );
    let node = ["node", "--relay", &relay, "--socks"];
    let named = [
        &node[..],
        &[&listen, "--socks-exit", &exit, "--socks-exit", "*:*"],
    ]
    .concat();
    streams.ring.add("open", &named);
    let listen = format!("127.0.0.1:{closed}");
    streams
        .ring
        .add("closed", &[&node[..], &[&listen]].concat());
    streams.ring.wait_whole();

    let id = streams.ring.members[1].status().unwrap()["id"].clone();
    let by_id = format!("web.{}.roundelay", id.as_str().unwrap());
    for host in ["web.server.roundelay", &by_id] {
        let (reply, mut stream) = socks(closed, host, 80);
        assert_eq!(reply, SUCCEEDED, "{host}");
        let mut ready = [0; 10];
        stream.read_exact(&mut ready).unwrap();
        assert_eq!(&ready, b"220 ready\n");
    }
    let other = web.port() ^ 1;
    for (proxy, host, port, expected) in [
        (closed, "nothing.server.roundelay", 80, REFUSED),
        (closed, "web.nobody.roundelay", 80, UNREACHABLE),
        (closed, "roundelay.roundelay", 80, UNREACHABLE),
        // Without exits not even a name is looked up.
        (closed, "127.0.0.1", web.port(), NOT_ALLOWED),
        (closed, "localhost", web.port(), NOT_ALLOWED),
        (open, "127.0.0.1", web.port(), SUCCEEDED),
        // By whatever name: it is its address that is allowed.
        (open, "localhost", web.port(), SUCCEEDED),
        (open, "127.0.0.1", other, NOT_ALLOWED),
        (open, "localhost", other, NOT_ALLOWED),
        (open, "169.254.169.254", 80, NOT_ALLOWED),
        (open, "10.0.0.1", 80, NOT_ALLOWED),
        (open, "0.0.0.0", web.port(), NOT_ALLOWED),
    ] {
        assert_eq!(socks(proxy, host, port).0, expected, "{host}:{port}");
    }
}
