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
    let exposed: Vec<String> = exposed
        .iter()
        .map(|(name, address)| format!("{name}={address}"))
        .collect();
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
    let mut byte = [0; 1];
    match client.read(&mut byte) {
        Ok(0) => false,
        Ok(_) => false,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn what_is_not_exposed_is_not_reached_and_hurts_nobody_else() {
    let _alone = alone();
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let all = [("echo", service(echo)), ("dead", nobody)];
    let streams = streams(&all, &["echo", "nothing", "dead"]);
    let mut good = streams.connect(0);
    let mut word = [0; 4];
    good.write_all(b"good").unwrap();
    good.read_exact(&mut word).unwrap();
    assert!(is_refused(streams.connect(1)), "no such service");
    assert!(is_refused(streams.connect(2)), "a service that is down");
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
