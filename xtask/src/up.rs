//! `cargo xtask up`: a ring on this machine, from nothing to Ctrl-C.

use std::env;
use std::fs::{self, DirBuilder};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::args;
use crate::build;
use crate::children::{Children, Ended};
use crate::error::{Context as _, Result};
use crate::http;
use crate::page;
use crate::sh;
use crate::signals;

/// How long the relay, and then each node, may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// Builds, starts, waits and cleans up.
pub(crate) fn run(options: &args::Up) -> Result {
    for port in std::iter::once(options.port).chain(http_ports(options)) {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        bound.context(format!(
            "port {port} can not be had; choose others (see --help)"
        ))?;
    }
    page::build()?;
    let binary = build::binary()?;
    let data = Data::prepare(options.data_dir.as_deref())?;
    let mut children = Children::new(signals::catch()?);
    let ended = start(options, &binary, &data.dir, &mut children).and_then(|ended| match ended {
        Ended::Asked => Ok(()),
        Ended::Done => {
            greet(options);
            children.wait("Ctrl-C", None, || false).map(|_| ())
        }
    });
    sh::say("stopping");
    children.stop();
    drop(data);
    ended
}

/// Starts the relay and then the nodes, each ready before the next.
fn start(options: &args::Up, binary: &Path, data: &Path, children: &mut Children) -> Result<Ended> {
    sh::say(format!(
        "starting a relay and {} nodes in {}",
        options.nodes,
        data.display()
    ));
    let listen = format!("127.0.0.1:{}", options.port);
    let mut relay = member(binary, data, "relay", "relay");
    relay.args(["--listen", &listen]);
    children.start("relay", &mut relay, data.join("relay.log"))?;
    let healthy = || http::status(options.port, "/healthz").is_ok_and(|code| code == 200);
    if children.wait("the relay's /healthz", Some(READY), healthy)? == Ended::Asked {
        return Ok(Ended::Asked);
    }
    for (number, port) in (1..).zip(http_ports(options)) {
        let name = format!("node-{number}");
        let mut node = member(binary, data, "node", &name);
        node.args(["--relay", &format!("http://{listen}")]);
        node.args(["--http", &format!("127.0.0.1:{port}")]);
        children.start(&name, &mut node, data.join(format!("{name}.log")))?;
    }
    for port in http_ports(options) {
        let ready = || http::status(port, "/readyz").is_ok_and(|code| code == 200);
        let what_for = format!("/readyz on port {port}");
        if children.wait(&what_for, Some(READY), ready)? == Ended::Asked {
            return Ok(Ended::Asked);
        }
    }
    Ok(Ended::Done)
}

fn member(binary: &Path, data: &Path, role: &str, name: &str) -> Command {
    let mut command = sh::program(binary);
    command
        .arg(role)
        .arg("--data-dir")
        .arg(data.join(name))
        .args(["--name", name]);
    command
}

fn http_ports(options: &args::Up) -> impl DoubleEndedIterator<Item = u16> + use<> {
    options.base_http_port..options.base_http_port + options.nodes
}

fn greet(options: &args::Up) {
    let url = format!("http://127.0.0.1:{}/", options.port);
    println!("\nThe ring is up. Open {url} in two windows: each page is a peer.\n");
    let mut ports = http_ports(options);
    if let Some(first) = ports.next() {
        let last = ports.next_back().unwrap_or(first);
        println!("  curl -X PUT --data-binary hello http://127.0.0.1:{first}/v1/kv/demo/greeting");
        println!("  curl http://127.0.0.1:{last}/v1/kv/demo/greeting");
        println!("  curl http://127.0.0.1:{first}/v1/status\n");
    }
    println!("Ctrl-C stops all of it.");
    if options.open {
        open(&url);
    }
}

fn open(url: &str) {
    let opener = ["xdg-open", "open"].into_iter().find_map(sh::which);
    let opened = opener.is_some_and(|opener| sh::run(sh::program(opener).arg(url)).is_ok());
    if !opened {
        sh::say("no browser could be opened from here; open the address by hand");
    }
}

/// Where the members keep their data.
struct Data {
    dir: PathBuf,
    is_ours: bool,
}

impl Data {
    fn prepare(wanted: Option<&Path>) -> Result<Self> {
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let fresh = format!("roundelay-{}-{}", std::process::id(), started.as_millis());
        let dir = match wanted {
            Some(dir) => env::current_dir().context("where am I")?.join(dir),
            None => env::temp_dir().join(fresh),
        };
        // Keys are in there: nobody else's business.
        let made = DirBuilder::new()
            .recursive(wanted.is_some())
            .mode(0o700)
            .create(&dir);
        made.context(format!(
            "making {}; choose another with --data-dir",
            dir.display()
        ))?;
        Ok(Self {
            dir,
            is_ours: wanted.is_none(),
        })
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            sh::say(format!(
                "{} could not be removed: {error}",
                self.dir.display()
            ));
        }
    }
}
