//! `offshoot-dct-sim`: a DCT to try Offshoot's Delphix backend against, without an engine.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use clap::{Parser, ValueEnum};
use offshoot_dct_sim::{Config, Exportfs, OnRestart, Release, Sim, control};
use serde_json::json;

/// A simulated Delphix Data Control Tower.
///
/// Serves the part of DCT's API that a storage driver uses, over TLS and with an API key. Its data is real: each dSource, VDB
/// and snapshot is a directory tree below --data. It was made from public documents and never compared with a real DCT.
#[derive(Parser)]
#[command(name = "offshoot-dct-sim", version)]
struct Args {
    /// Where the data of dSources, VDBs and snapshots is kept
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Address and port to serve the API on
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Keep the state in this file and go on from it after a restart; without it a restart forgets everything but the data
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// File with the API key, without the word apk; made with a new key if it is not there
    #[arg(long, value_name = "FILE", default_value = "dct-sim.key")]
    key_file: PathBuf,
    /// Where to write the certificate of the authority that clients must trust
    #[arg(long, value_name = "FILE", default_value = "dct-sim-ca.pem")]
    ca_out: PathBuf,
    /// More names and addresses for the certificate
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Begin with this, unless there is a state already
    #[arg(long, value_enum)]
    seed: Option<SeedKind>,
    /// Number of engines of the seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    engines: u8,
    /// Name or address at which nodes reach the engines' NFS server
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    engine_address: String,
    /// Release of DCT to behave as; fields and calls that came later are refused
    #[arg(long, value_name = "RELEASE", default_value_t = Release::LATEST)]
    api_version: Release,
    /// How long a job works
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    job: Duration,
    /// How long a job then waits for telemetry
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    telemetry: Duration,
    /// How long objects show their old state after a job is COMPLETED; up to 60 in real life
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    lag: Duration,
    /// Delete snapshots that nothing keeps after this time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    retention: Option<Duration>,
    /// What happens to jobs that were under way when the simulator ended
    #[arg(long, value_enum, default_value_t = RestartKind::Resume)]
    on_restart: RestartKind,
    /// How the data is exported
    #[arg(long, value_enum, default_value_t = ExportKind::None)]
    export: ExportKind,
    /// NFS version that engines export with
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(3..=4))]
    nfs_version: u8,
    /// Loopback address and port of the control interface: faults, other people's doings, counts. It has no key
    #[arg(long, value_name = "ADDR:PORT")]
    control: Option<SocketAddr>,
    /// How to print what to configure
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum SeedKind {
    /// An engine, an environment with a host, two groups, and a dSource `demo` with three small files
    Demo,
}

#[derive(Clone, Copy, ValueEnum)]
enum RestartKind {
    /// They go on
    Resume,
    /// They become ABANDONED
    Abandon,
}

#[derive(Clone, Copy, ValueEnum)]
enum ExportKind {
    /// Not at all; who may mount is only kept and shown
    None,
    /// With exportfs, on this machine; --data must be rootdir in section [exports] of the server's nfs.conf, or /
    Exportfs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// Lines to read
    Text,
    /// One JSON object
    Json,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    match run(Args::parse()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(io::stderr(), "error: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), String> {
    let key = key(&args.key_file)?;
    let config = Config {
        release: args.api_version,
        running: args.job,
        telemetry: args.telemetry,
        lag: args.lag,
        retention: args.retention,
        on_restart: match args.on_restart {
            RestartKind::Resume => OnRestart::Resume,
            RestartKind::Abandon => OnRestart::Abandon,
        },
        nfs_version: args.nfs_version,
        ..Config::default()
    };
    let mut builder = Sim::builder(&args.data).config(config).key(&key).listen(args.listen).names(&args.name);
    if let Some(state) = &args.state {
        builder = builder.state(state);
    }
    if matches!(args.export, ExportKind::Exportfs) {
        builder = builder.exports(Box::<Exportfs>::default());
    }
    for _ in 0..args.seed.map_or(0, |_| args.engines) {
        builder = builder.engine(&args.engine_address);
    }
    let sim = builder.start().await.map_err(|e| format!("the simulator does not start: {e}"))?;
    fs::write(&args.ca_out, &sim.ca_pem)
        .map_err(|e| format!("{} cannot be written: {e}", args.ca_out.display()))?;
    let sim = Arc::new(sim);
    let control = match args.control {
        Some(at) if !at.ip().is_loopback() => return Err(format!("control {at} is not a loopback address")),
        Some(at) => {
            let listener = tokio::net::TcpListener::bind(at).await;
            let listener = listener.map_err(|e| format!("control {at} cannot be listened on: {e}"))?;
            let at = listener.local_addr().map_err(|e| e.to_string())?;
            tokio::spawn(axum::serve(listener, control(sim.clone())).into_future());
            Some(at)
        }
        None => None,
    };
    say(&args, &sim, control).map_err(|e| e.to_string())?;
    tokio::signal::ctrl_c().await.map_err(|e| e.to_string())
}

/// The key in a file, or a new one that is in it from now on.
fn key(path: &Path) -> Result<String, String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Ok(_) => Err(format!("{} is empty; write a key into it or remove it", path.display())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let key = format!("1.{}", uuid::Uuid::new_v4().simple());
            offshoot_dct_sim::write_private(path, key.as_bytes())
                .map_err(|e| format!("{} cannot be written: {e}", path.display()))?;
            Ok(key)
        }
        Err(e) => Err(format!("{} cannot be read: {e}", path.display())),
    }
}

fn say(args: &Args, sim: &Sim, control: Option<SocketAddr>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if matches!(args.output, Output::Json) {
        let seeded: Vec<_> = sim.seeded.iter().map(|s| json!({
            "engine": s.engine, "environment": s.environment, "host": s.host, "repository": s.repository,
            "group": s.group, "dsource": s.dsource, "snapshot": s.snapshot,
        })).collect();
        let control = control.map(|at| format!("http://{at}"));
        return writeln!(
            out,
            "{}",
            json!({"url": sim.url, "key_file": args.key_file, "ca_file": args.ca_out,
            "control": control, "release": args.api_version.to_string(), "seeded": seeded})
        );
    }
    writeln!(out, "A simulated DCT {} serves {}", args.api_version, sim.url)?;
    writeln!(out, "\nConfigure the driver with")?;
    writeln!(out, "  url       {}", sim.url)?;
    writeln!(out, "  key file  {}", args.key_file.display())?;
    writeln!(out, "  CA file   {}", args.ca_out.display())?;
    for s in &sim.seeded {
        writeln!(out, "\nEngine {} at {}", s.engine, args.engine_address)?;
        writeln!(out, "  dSource      {} (demo), snapshot {}", s.dsource, s.snapshot)?;
        writeln!(out, "  environment  {}, host {}, repository {}", s.environment, s.host, s.repository)?;
        writeln!(out, "  group        {}", s.group)?;
    }
    if sim.seeded.is_empty() {
        let from = if args.state.is_some() { "is as the state file left it" } else { "is empty; see --seed" };
        writeln!(out, "\nIt {from}")?;
    }
    if let Some(at) = control {
        writeln!(out, "\nControl interface: http://{at}/status")?;
    }
    writeln!(
        out,
        "\nTry: curl --cacert {} -H \"Authorization: apk $(cat {})\" {}/dct/v3/vdbs",
        args.ca_out.display(),
        args.key_file.display(),
        sim.url
    )?;
    out.flush()
}
