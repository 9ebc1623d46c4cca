//! Just enough HTTP to ask a process of ours how it is.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

/// The status code that `GET path` on a loopback port answers.
pub(crate) fn status(port: u16, path: &str) -> io::Result<u16> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // In one piece: who answers the first line and closes would reset a
    // connection that brings more.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let code = line
        .split_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok());
    code.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn answering(answer: &'static str) -> io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let server = thread::spawn(move || -> io::Result<String> {
            let (mut stream, _) = listener.accept()?;
            let mut line = String::new();
            let mut request = BufReader::new(&stream);
            request.read_line(&mut line)?;
            // To its end: what is unread at the close resets the connection.
            let mut rest = String::new();
            while request.read_line(&mut rest)? > 2 {}
            stream.write_all(answer.as_bytes())?;
            Ok(line)
        });
        let status = status(port, "/readyz");
        assert!(
            server
                .join()
                .is_ok_and(|line| line.is_ok_and(|l| l.starts_with("GET /readyz ")))
        );
        status
    }

    #[test]
    fn the_status_code_is_read() {
        assert!(matches!(answering("HTTP/1.1 200 OK\r\n\r\n"), Ok(200)));
        assert!(matches!(
            answering("HTTP/1.1 503 Service Unavailable\r\n\r\n"),
            Ok(503)
        ));
    }

    #[test]
    fn anything_else_is_an_error() {
        assert!(answering("SSH-2.0-OpenSSH\r\n").is_err());
        assert!(answering("").is_err());
    }
}
