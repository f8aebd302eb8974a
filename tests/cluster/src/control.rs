//! The control plane: etcd, the API server, the controller manager, the scheduler and the snapshot controller.
//!
//! They run as processes of one machine, not as pods: each can be killed and started on its own, and a node that is lost takes none
//! of them with it. There is one of each and no election of leaders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::certificates::{self, Authority};
use crate::layout::Layout;
use crate::machine::Machine;
use crate::network::{self, CONTROL, HOST};

/// The machine's name.
pub const NAME: &str = "control";

/// In the order in which they are started.
pub const PROCESSES: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "snapshot-controller", DNS];

/// The server of names.
pub(crate) const DNS: &str = "dns";

/// Where the machine sees its settings.
const SETTINGS: &str = "/var/lib/kubernetes";

/// Who asked for what, for counting requests: one line each, without bodies.
const AUDIT_POLICY: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[{"level":"Metadata"}]}"#;

/// Starts the machine and connects it. The certificates of a former start are kept.
///
/// # Errors
/// If the machine cannot be started or a file not written.
pub fn power_on(layout: &Layout, tools: &Path) -> Result<Machine> {
    let machine = machine(layout)?;
    if machine.init()?.is_none() {
        settings(layout, &machine)?;
        machine.power_on(tools, &[])?;
        network::connect_control(layout, &machine)?;
    }
    Ok(machine)
}

/// The machine, running or not.
///
/// # Errors
/// If its folder cannot be made.
pub fn machine(layout: &Layout) -> Result<Machine> {
    Machine::new(NAME, &layout.path("machines/control"))
}

/// The API server's address, from the host and from nodes.
#[must_use]
pub fn server(layout: &Layout) -> String {
    format!("https://{}:6443", layout.address(CONTROL))
}

/// Where every request to the API server is written down, one JSON object a line.
///
/// # Errors
/// If the machine's folder cannot be made.
pub fn audit_log(layout: &Layout) -> Result<PathBuf> {
    Ok(machine(layout)?.var("log/audit.json"))
}

/// Starts one of the processes, if it does not run.
///
/// # Errors
/// If the machine is off or the program cannot be started.
pub fn start(layout: &Layout, tools: &Path, process: &str) -> Result<()> {
    let machine = machine(layout)?;
    let program = if process == DNS && machine.process(DNS)?.is_none() {
        // The machine sees no more of the host's file systems than the root's and its own.
        let copy = machine.var("lib/kubernetes/cluster");
        crate::machine::remove(&copy)?;
        fs::copy(crate::dns::program()?, &copy).with_context(|| format!("cannot make {}", copy.display()))?;
        Path::new(SETTINGS).join("cluster")
    } else {
        tools.join(process)
    };
    let mut command = Command::new(program);
    command.args(arguments(layout, process));
    machine.start(process, command)?;
    Ok(())
}

/// Ends the control plane in good order, so that etcd's data is whole on disk.
///
/// # Errors
/// If a process does not end even by force.
pub fn stop(layout: &Layout) -> Result<()> {
    let machine = machine(layout)?;
    for process in PROCESSES.iter().rev() {
        if let Some(running) = machine.process(process)? {
            running.stop(Duration::from_secs(3))?;
        }
    }
    machine.power_off()?;
    network::disconnect_host(layout)
}

/// Writes what the processes read.
fn settings(layout: &Layout, machine: &Machine) -> Result<()> {
    let folder = machine.var("lib/kubernetes");
    let pki = layout.path("pki");
    for dir in [&folder, &pki] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    if !pki.join("admin.crt").exists() {
        let authority = Authority::at(&pki)?;
        let (control, service) = (layout.address(CONTROL), layout.service_address());
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
            "127.0.0.1",
            &control,
            &service,
        ];
        authority.sign(&pki, "apiserver", "kube-apiserver", None, &names)?;
        authority.sign(
            &pki,
            "apiserver-kubelet",
            "kube-apiserver-kubelet-client",
            Some("system:masters"),
            &[],
        )?;
        authority.sign(&pki, "kube-controller-manager", "system:kube-controller-manager", None, &[])?;
        authority.sign(&pki, "kube-scheduler", "system:kube-scheduler", None, &[])?;
        authority.sign(&pki, "kube-proxy", "system:kube-proxy", None, &[])?;
        certificates::signing_key(&pki, "service-accounts")?;
        // The last: its presence says that all are there.
        authority.sign(&pki, "admin", "offshoot-admin", Some("system:masters"), &[])?;
    }
    for entry in fs::read_dir(&pki)? {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name())).context("cannot copy a certificate")?;
    }
    let server = server(layout);
    for name in ["kube-controller-manager", "kube-scheduler", "admin"] {
        certificates::kubeconfig(
            &folder.join(format!("{name}.kubeconfig")),
            &server,
            Path::new(SETTINGS),
            name,
        )?;
    }
    fs::write(folder.join("audit-policy.json"), AUDIT_POLICY).context("cannot write the audit policy")?;
    certificates::kubeconfig(&layout.kubeconfig(), &server, &pki, "admin")
}

/// What a process is started with.
fn arguments(layout: &Layout, process: &str) -> Vec<String> {
    let own = |flag: &str, file: &str| format!("--{flag}={SETTINGS}/{file}");
    let kubeconfig = || own("kubeconfig", &format!("{process}.kubeconfig"));
    match process {
        "etcd" => vec![
            "--data-dir=/var/lib/etcd".into(),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            // A test cluster's loss costs nothing; a disk shared with builds would cost seconds in each request.
            "--unsafe-no-fsync".into(),
        ],
        "kube-apiserver" => vec![
            "--etcd-servers=http://127.0.0.1:2379".into(),
            "--bind-address=0.0.0.0".into(),
            format!("--advertise-address={}", layout.address(CONTROL)),
            "--secure-port=6443".into(),
            format!("--service-cluster-ip-range={}", layout.service_range()),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--allow-privileged=true".into(),
            "--kubelet-preferred-address-types=InternalIP".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            own("service-account-key-file", "service-accounts.pub"),
            own("service-account-signing-key-file", "service-accounts.key"),
            own("client-ca-file", "ca.crt"),
            own("tls-cert-file", "apiserver.crt"),
            own("tls-private-key-file", "apiserver.key"),
            own("kubelet-client-certificate", "apiserver-kubelet.crt"),
            own("kubelet-client-key", "apiserver-kubelet.key"),
            own("audit-policy-file", "audit-policy.json"),
            "--audit-log-path=/var/log/audit.json".into(),
            "--audit-log-maxsize=200".into(),
            "--audit-log-maxbackup=2".into(),
            "--cert-dir=/run/kube-apiserver".into(),
        ],
        "kube-controller-manager" => vec![
            kubeconfig(),
            own("authentication-kubeconfig", "kube-controller-manager.kubeconfig"),
            own("authorization-kubeconfig", "kube-controller-manager.kubeconfig"),
            own("service-account-private-key-file", "service-accounts.key"),
            own("root-ca-file", "ca.crt"),
            own("cluster-signing-cert-file", "ca.crt"),
            own("cluster-signing-key-file", "ca.key"),
            "--use-service-account-credentials=true".into(),
            "--leader-elect=false".into(),
            // A lost node is noticed in half the usual time: tests wait for it.
            "--node-monitor-grace-period=20s".into(),
            "--cert-dir=/run/kube-controller-manager".into(),
        ],
        "kube-scheduler" => vec![
            kubeconfig(),
            own("authentication-kubeconfig", "kube-scheduler.kubeconfig"),
            own("authorization-kubeconfig", "kube-scheduler.kubeconfig"),
            "--leader-elect=false".into(),
            "--cert-dir=/run/kube-scheduler".into(),
        ],
        DNS => vec![
            DNS.into(),
            format!("--listen={}:53", layout.address(CONTROL)),
            own("kubeconfig", "admin.kubeconfig"),
        ],
        _ => vec![
            own("kubeconfig", "admin.kubeconfig"),
            "--leader-election=false".into(),
            "--feature-gates=CSIVolumeGroupSnapshot=true".into(),
        ],
    }
}

/// What a person would call the host's address in the cluster: a listener there is reachable from pods.
#[must_use]
pub fn host_address(layout: &Layout) -> String {
    layout.address(HOST)
}
