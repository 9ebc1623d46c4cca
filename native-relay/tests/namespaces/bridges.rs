//! Two bridges that a cable joins, and hosts on them, all in network
//! namespaces of their own: nothing of the machine's own network is touched.

use std::process::Command;

use super::Side;

/// The bridges and their hosts; dropping it removes all of them.
pub(super) struct Bridges {
    /// The namespace of the bridges, and the beginning of the names of all
    /// others: it has the number of this process.
    name: String,
    hosts: usize,
}

/// A machine as a process in it sees it.
pub(super) struct Host {
    namespace: String,
    /// Its address on the bridges.
    pub(super) address: String,
}

/// Runs `ip`; what it complained of, if it did.
fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output();
    let output = output.map_err(|error| format!("cannot run `ip`, of iproute2: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`ip {}`: {}", args.join(" "), said.trim()))
}

impl Bridges {
    /// Puts both up, joined; says why it cannot.
    pub(super) fn start() -> Result<Self, String> {
        if !cfg!(target_os = "linux") {
            return Err("only Linux has network namespaces".into());
        }
        let name = format!("roundelay-{}", std::process::id());
        ip(&["netns", "add", &name])?;
        let bridges = Self { name, hosts: 0 };
        for bridge in ["left", "right"] {
            bridges.link(&["add", bridge, "type", "bridge"])?;
            bridges.link(&["set", bridge, "up"])?;
        }
        let cable = ["add", "to-right", "type", "veth", "peer", "name", "to-left"];
        bridges.link(&cable)?;
        bridges.link(&["set", "to-right", "master", "left"])?;
        bridges.link(&["set", "to-left", "master", "right", "up"])?;
        bridges.join();
        Ok(bridges)
    }

    /// `ip link` where the bridges are.
    fn link(&self, args: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.name, "link"][..], args].concat())
    }

    /// One more host, on a side.
    pub(super) fn host(&mut self, side: Side) -> Host {
        self.hosts += 1;
        let number = self.hosts;
        let namespace = format!("{}-{number}", self.name);
        let (address, port) = (format!("10.0.0.{number}"), format!("host-{number}"));
        let make = || {
            ip(&["netns", "add", &namespace])?;
            let plug = ["peer", "name", "eth0", "netns", &namespace];
            self.link(&[&["add", &port, "type", "veth"][..], &plug].concat())?;
            self.link(&["set", &port, "master", side.name(), "up"])?;
            let net = format!("{address}/24");
            ip(&["-n", &namespace, "address", "add", &net, "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])
        };
        make().unwrap();
        Host { namespace, address }
    }

    /// Pulls the cable: neither side hears anything of the other.
    pub(super) fn cut(&self) {
        self.link(&["set", "to-right", "down"]).unwrap();
    }

    /// Puts the cable back.
    pub(super) fn join(&self) {
        self.link(&["set", "to-right", "up"]).unwrap();
    }
}

impl Drop for Bridges {
    fn drop(&mut self) {
        let hosts = (1..=self.hosts).map(|number| format!("{}-{number}", self.name));
        for namespace in hosts.chain([self.name.clone()]) {
            if let Err(error) = ip(&["netns", "delete", &namespace]) {
                eprintln!("{error}");
            }
        }
    }
}

impl Host {
    /// Does something there: its sockets, and the processes that it starts,
    /// are the host's.
    pub(super) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        // A thread of its own, since a thread's namespace is for good.
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                self.enter();
                work()
            });
            there.join().unwrap()
        })
    }

    #[cfg(target_os = "linux")]
    fn enter(&self) {
        use std::os::fd::AsFd as _;

        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

        let file = std::fs::File::open(format!("/run/netns/{}", self.namespace)).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    #[cfg(not(target_os = "linux"))]
    fn enter(&self) {
        panic!("there is no {}", self.namespace);
    }
}
