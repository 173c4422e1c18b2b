//! `waystation dev`: it starts everything, says where it is, and leaves nothing behind.

use std::{net::TcpListener, process::Stdio};

use crate::support::{
    SOON,
    cluster::Cluster,
    process::{Process, lives, waystation},
    ready::healthy_lives,
    until,
};

fn pids(cluster: &Cluster) -> Vec<u32> {
    let info = cluster.info();
    let of = |key: &str| {
        info[key].as_array().unwrap().iter().map(|p| p["pid"].as_u64().unwrap() as u32).collect::<Vec<_>>()
    };
    [of("relays"), of("coordinator_processes")].concat()
}

#[test]
fn once_the_ready_file_is_there_the_coordinator_names_every_relay() {
    let cluster = Cluster::start_with(3, |_| ());
    for relay in &cluster.relays {
        let lives = healthy_lives(&cluster.coordinators[0], &relay.id);
        assert_eq!(lives.map(|lives| lives.len()), Some(1), "of {}", relay.id);
    }
}

#[test]
fn ctrl_c_leaves_nothing_running() {
    let mut cluster = Cluster::start(3);
    let pids = pids(&cluster);
    assert_eq!(pids.len(), 4);
    assert!(pids.iter().all(|&pid| lives(pid)));
    cluster.dev().signal(libc::SIGINT);
    assert!(cluster.dev().wait(SOON).success(), "{}", cluster.dev().stderr());
    until("every process gone", SOON, || pids.iter().all(|&pid| !lives(pid)).then_some(()));
}

#[test]
fn sigkill_of_dev_leaves_nothing_running_either() {
    let mut cluster = Cluster::start(2);
    let pids = pids(&cluster);
    cluster.dev().signal(libc::SIGKILL);
    cluster.dev().wait(SOON);
    until("every process gone", SOON, || pids.iter().all(|&pid| !lives(pid)).then_some(()));
}

#[test]
fn a_taken_port_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut dev = Process::start(waystation().args(["dev", "--port", &port]).stdout(Stdio::null()));
    let status = dev.wait(SOON);
    let text = dev.stderr();
    assert!(!status.success());
    assert!(text.contains(&port) && text.contains("--port"), "{text}");
}

#[test]
fn each_process_tells_its_health_and_metrics_that_promtool_takes() {
    let cluster = Cluster::start(1);
    let info = cluster.info();
    for process in [&info["relays"][0], &info["coordinator_processes"][0]] {
        let admin = process["admin"].as_str().unwrap();
        for path in ["healthz", "readyz"] {
            let response = reqwest::blocking::get(format!("{admin}/{path}")).unwrap();
            assert!(response.status().is_success(), "{path} of {process}: {}", response.status());
        }
        let metrics = cluster.metrics(admin);
        let series = metrics.lines().filter(|line| line.starts_with("waystation_")).count();
        assert!(series > 5, "{metrics}");
        check_with_promtool(&metrics);
    }
}

/// `promtool check metrics` is the judge of names, units and help texts.
fn check_with_promtool(metrics: &str) {
    use std::io::Write as _;
    let mut command = std::process::Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is installed by make test");
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{metrics}");
}

#[test]
fn the_page_and_its_api_answer_only_the_own_origin() {
    let cluster = Cluster::start(1);
    let http = reqwest::blocking::Client::new();
    let url = format!("{}/dev/nodes/{}/kill", cluster.page.trim_end_matches('/'), cluster.relays[0].id);
    let foreign = http.post(&url).header("origin", "http://evil.example").send().unwrap();
    assert!(foreign.status().is_client_error(), "{}", foreign.status());
    assert!(lives(cluster.relays[0].pid));
    let own = http.post(&url).send().unwrap();
    assert!(own.status().is_success(), "{}", own.status());
    until("the relay's end", SOON, || (!lives(cluster.relays[0].pid)).then_some(()));
}
