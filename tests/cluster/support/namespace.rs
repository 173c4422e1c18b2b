//! Network namespaces: browsers and other peers use every interface that they find, so each gets interfaces of its own.

use std::process::Command;

use super::process::output;

/// Puts the calling thread, and all that it starts from now on, threads and processes, into a new namespace that has
/// nothing but loopback and goes with the last of them.
#[track_caller]
pub fn enter_one_of_its_own() {
    // SAFETY: it changes which interfaces this thread sees, and nothing that memory holds.
    let entered = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(entered, 0, "a network namespace: {}; are you root?", std::io::Error::last_os_error());
    output(Command::new("ip").args(["link", "set", "lo", "up"]));
}

/// A network namespace that goes with the value. Start nothing in it that outlives it.
pub struct Namespace(String);

impl Namespace {
    /// One with a loopback interface, and where `address` says so, a pair of virtual Ethernet interfaces with that address
    /// and the default route. Both ends of the pair are within: whatever is sent to elsewhere is lost there.
    #[track_caller]
    pub fn new(name: &str, address: Option<&str>) -> Self {
        let namespace = Self(format!("ws-{name}-{}", std::process::id()));
        let ip = |words: &str| drop(output(Command::new("ip").args(words.split(' '))));
        let name = &namespace.0;
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        if let Some(address) = address {
            ip(&format!("-n {name} link add ws0 type veth peer name ws1"));
            ip(&format!("-n {name} addr add {address} dev ws0"));
            ip(&format!("-n {name} link set ws0 up"));
            ip(&format!("-n {name} link set ws1 up"));
            ip(&format!("-n {name} route add default dev ws0"));
        }
        namespace
    }

    /// The same command, run in the namespace.
    pub fn within(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.0]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}
