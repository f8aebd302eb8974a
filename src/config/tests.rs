//! Tests of the module beside this file.

use super::*;
use clap::{Args as _, FromArgMatches as _};
use std::collections::BTreeMap;

fn flags(args: &[&str]) -> Result<ServeOptions, clap::Error> {
    let command = ServeOptions::augment_args(clap::Command::new("serve").no_binary_name(true));
    command.try_get_matches_from(args).and_then(|found| ServeOptions::from_arg_matches(&found))
}

fn file(text: &str) -> ServeOptions {
    parse::<ServeOptions>(text).unwrap()
}

#[test]
fn a_flag_is_stronger_than_the_file_and_the_file_than_the_default() {
    let config = flags(&["--node-id", "a", "--reserve", "1Gi", "--pool", "x=/x"])
        .unwrap()
        .resolve(file("node-id = 'b'\nfreeze-limit = '3s'\npool = ['y=/y', 'z=/z']"))
        .unwrap();
    assert_eq!(config.node_id, "a");
    assert_eq!(config.reserve, Share::Bytes(1 << 30));
    assert_eq!(config.freeze_limit, Duration::from_secs(3));
    assert_eq!(config.server.shutdown_timeout, DEFAULT_SHUTDOWN_TIMEOUT);
    assert_eq!(config.server.endpoint, Path::new(DEFAULT_ENDPOINT));
    assert_eq!(config.pools, BTreeMap::from([("x".to_owned(), "/x".into())]));
    assert_eq!(config.server.admin_addr, None);
}

#[test]
fn every_flag_has_its_variable_its_key_in_the_file_and_a_line_of_help() {
    check_flags::<ServeOptions>();
    check_flags::<ControllerOptions>();
    check_flags::<NodeOptions>();
}

fn check_flags<T: clap::Args + DeserializeOwned + std::fmt::Debug>() {
    let command = T::augment_args(clap::Command::new("server"));
    let known = parse::<T>("no-such-key = 1").unwrap_err().to_string();
    for arg in command.get_arguments() {
        let long = arg.get_long().unwrap();
        let variable = format!("OFFSHOOT_{}", long.replace('-', "_").to_uppercase());
        assert_eq!(arg.get_env().and_then(|v| v.to_str()), Some(variable.as_str()));
        assert!(known.contains(&format!("`{long}`")), "{long} is not a key: {known}");
        assert!(arg.get_help().is_some_and(|help| !help.to_string().is_empty()), "{long}");
    }
}

#[test]
fn the_defaults_in_the_help_are_the_defaults() {
    let config = ServeOptions::default().resolve(file("node-id = 'n'")).unwrap();
    let command = ServeOptions::augment_args(clap::Command::new("serve"));
    let help = |id: &str| {
        command.get_arguments().find(|a| a.get_id() == id).unwrap().get_help().unwrap().to_string()
    };
    let check = |id: &str, value: String| assert!(help(id).ends_with(&format!("[default: {value}]")), "{id}");
    check("endpoint", config.server.endpoint.display().to_string());
    check("state_dir", config.state_dir.display().to_string());
    check("max_volumes_per_node", config.max_volumes_per_node.to_string());
    check("reserve", config.reserve.to_string());
    check("driver_name", config.server.driver_name);
    check("freeze_limit", Span(config.freeze_limit).to_string());
    check("shutdown_timeout", Span(config.server.shutdown_timeout).to_string());
}

#[test]
fn a_key_that_is_not_known_is_refused_with_its_line() {
    let error = parse::<ServeOptions>("node-id = 'n'\n\nfreeze_limit = '3s'\n").unwrap_err().to_string();
    assert!(error.contains("line 3") && error.contains("freeze_limit"), "{error}");
    assert!(!error.ends_with('\n'));
    let error = parse::<ServeOptions>("freeze-limit = 'soon'").unwrap_err().to_string();
    assert!(error.contains("give one such as 10s"), "{error}");
}

#[test]
fn values_that_cannot_work_are_refused_with_what_can() {
    let check = |args: &[&str], expect: &str| {
        let error = flags(args).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(expect), "{args:?}: {error}");
    };
    check(&["--endpoint", "tcp://0.0.0.0:1"], "is not a unix socket");
    check(&["--endpoint", "csi.sock"], "is not a unix socket");
    check(&["--endpoint", &format!("/{}", "a".repeat(100))], "too long");
    check(&["--node-id", "-n"], "unexpected argument");
    check(&["--node-id=-n"], "cannot name a node");
    check(&["--node-id", &"a".repeat(64)], "cannot name a node");
    check(&["--node-id", "a\nb"], "cannot name a node");
    check(&["--driver-name", "a/b"], "cannot name a driver");
    check(&["--reserve", "101%"], "is not a share");
    check(&["--reserve", "lots"], "is not a size");
    check(&["--pool", "/srv"], "has no `=`");
    check(&["--pool", "a=srv"], "not an absolute path");
    check(&["--pool", "../a=/srv"], "its name");
    check(&["--freeze-limit", "0s"], "is not between");
    check(&["--admin-addr", "9810"], "invalid socket address");
    check(&["--max-volumes-per-node=-1"], "invalid");
}

#[test]
fn a_socket_is_named_by_a_path_or_as_kubernetes_writes_it() {
    for text in ["/run/a.sock", "unix:///run/a.sock", "unix:/run/a.sock"] {
        assert_eq!(text.parse(), Ok(Endpoint("/run/a.sock".into())));
    }
}

#[test]
fn two_pools_have_neither_one_name_nor_one_directory() {
    let check = |text: &str, expect: &str| {
        let error = ServeOptions::default().resolve(file(text)).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check("node-id = 'n'\npool = ['a=/x', 'a=/y']", "give each pool its own name");
    check("node-id = 'n'\npool = ['a=/x', 'b=/x/']", "are the same directory");
}

#[test]
fn a_controller_knows_each_agent_by_its_node_and_once_and_has_keys_from_one_place() {
    let check = |text: &str, expect: Result<&str, &str>| {
        let config = parse::<ControllerOptions>(text).and_then(|o| o.resolve(ControllerOptions::default()));
        let found = config.map(|c| match c.agents {
            AgentsFrom::List(agents) => agents.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            AgentsFrom::Service(service) => service,
        });
        match (found, expect) {
            (Ok(found), Ok(expect)) => assert_eq!(found, expect),
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (found, _) => panic!("{text}: {found:?}"),
        }
    };
    let keys = "tls-dir = '/t'\n";
    let agents = |list: &str| format!("{keys}agent = {list}");
    check(keys, Err("there are no agents"));
    check(&agents("['b=10.0.0.2:1', 'a=[::1]:9820']"), Ok("a at [::1]:9820 b at 10.0.0.2:1"));
    check(&agents("['a=h:1', 'a=h:2']"), Err("a node has one agent"));
    check(&agents("['a']"), Err("has no `=`"));
    check(&agents("['-a=h:1']"), Err("is not the name of one"));
    check(&agents("['a=h']"), Err("no port"));
    check(&agents("['a=h:0']"), Err("is not a number"));
    check(&agents("['a=:1']"), Err("no host"));
    check("tls-secret = 's'\nagents-service = 'agents'", Ok("agents"));
    check("agents-service = 'agents'", Err("a controller needs a certificate"));
    check("tls-secret = 's'\ntls-dir = '/t'\nagents-service = 'agents'", Err("exclude each other"));
    check(&agents("['a=h:1']\nagents-service = 'agents'"), Err("exclude each other"));
    check(&agents("['a=h:1']\ncertificate-lifetime = '10s'"), Err("not between 1m and 3650d"));
}
