//! Logs and traces.
//!
//! A person at a terminal reads lines, a log collector reads JSON, and both want the same events. Everything goes to
//! standard error; standard output belongs to the answers of commands. Below `info`, the libraries under us print
//! frames and headers, and a request holds credentials, so a level given with `--log-level` is the level of *our*
//! events; `RUST_LOG` is there for whoever wants the libraries' too.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, Result};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Lines for people.
    Human,
    /// One JSON object per line.
    Json,
}

/// What is logged, how, and where traces go.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How lines look.
    pub format: LogFormat,
    /// The level of our own events, or directives as in `RUST_LOG`; unset takes `RUST_LOG`, else `info`.
    pub level: Option<String>,
    /// The OTLP collector (gRPC, without TLS) that gets traces.
    pub otlp_endpoint: Option<String>,
}

/// Keeps telemetry running. Call [`Telemetry::finish`] at the end, or the last traces are lost.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Starts logging, and traces if asked for. Needs a running tokio runtime where traces are asked for.
///
/// Fails for a level that does not parse, an endpoint that is none, or if logging was started before.
pub fn start(options: &Options, service: &str) -> Result<Telemetry> {
    let filter = filter(options.level.as_deref(), std::env::var("RUST_LOG").ok().as_deref())?;
    let traces = options.otlp_endpoint.as_deref().map(|endpoint| traces(endpoint, service)).transpose()?;
    let spans = traces.as_ref().map(|t| tracing_opentelemetry::layer().with_tracer(t.tracer("offshoot")));
    tracing_subscriber::registry()
        .with(filter)
        .with(spans)
        .with(lines(options.format, io::stderr().is_terminal()))
        .try_init()
        .context("logging was started before")?;
    Ok(Telemetry { traces })
}

impl Telemetry {
    /// Sends the traces that are still waiting. Blocks for a few seconds at most.
    pub fn finish(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// Logs and counts every panic, in a task as in a call, in place of Rust's own message.
pub fn count_panics(counter: Counter<u64, AtomicU64>) {
    std::panic::set_hook(Box::new(move |panic| {
        counter.inc();
        let location = panic.location().map(ToString::to_string);
        let thread = std::thread::current();
        tracing::error!(
            panic = panic.payload_as_str().unwrap_or("(no text)"),
            location,
            thread = thread.name(),
            backtrace = %std::backtrace::Backtrace::capture(),
            "a bug: the driver panicked; please report it with this line"
        );
    }));
}

/// A bare level is ours alone; the libraries stay at `warn` then. Anything else is taken as it is.
fn filter(level: Option<&str>, rust_log: Option<&str>) -> Result<EnvFilter> {
    let directives = match (level, rust_log.filter(|text| !text.is_empty())) {
        (Some(level), _) if level.parse::<tracing::Level>().is_ok() => format!("warn,offshoot={level}"),
        (Some("off"), _) => "off".to_owned(),
        (Some(directives), _) => directives.to_owned(),
        (None, Some(directives)) => directives.to_owned(),
        (None, None) => "warn,offshoot=info".to_owned(),
    };
    EnvFilter::builder().parse(&directives).with_context(|| {
        format!("the log level `{directives}` is not understood; give error, warn, info, debug, trace, off, or directives as in RUST_LOG")
    })
}

fn lines<S>(format: LogFormat, terminal: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let lines = fmt::layer().with_writer(io::stderr);
    match (format, terminal) {
        (LogFormat::Human, _) | (LogFormat::Auto, true) => {
            lines.with_ansi(terminal).with_target(false).boxed()
        }
        (LogFormat::Json, _) | (LogFormat::Auto, false) => {
            lines.json().flatten_event(true).with_span_list(false).boxed()
        }
    }
}

fn traces(endpoint: &str, service: &str) -> Result<SdkTracerProvider> {
    let exporter =
        opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().with_context(|| {
            format!("cannot send traces to {endpoint}; give the gRPC address of a collector without TLS, such as http://127.0.0.1:4317")
        })?;
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_ours_and_directives_are_taken_as_they_are() {
        let check = |level: Option<&str>, rust_log: Option<&str>, expect: &str| {
            let mut found: Vec<String> =
                filter(level, rust_log).unwrap().to_string().split(',').map(str::to_owned).collect();
            let mut expect: Vec<String> = expect.split(',').map(str::to_owned).collect();
            found.sort();
            expect.sort();
            assert_eq!(found, expect, "{level:?} {rust_log:?}");
        };
        check(None, None, "warn,offshoot=info");
        check(Some("trace"), None, "warn,offshoot=trace");
        check(Some("debug"), Some("h2=trace"), "warn,offshoot=debug");
        check(None, Some("h2=trace"), "h2=trace");
        check(None, Some(""), "warn,offshoot=info");
        check(Some("info,h2=debug"), None, "info,h2=debug");
        check(Some("off"), None, "off");
    }

    #[test]
    fn a_level_that_is_none_says_what_is_one() {
        let error = format!("{:#}", filter(Some("a=b=c"), None).unwrap_err());
        assert!(error.contains("give error, warn, info"), "{error}");
    }

    #[tokio::test]
    async fn an_endpoint_that_is_none_says_what_is_one() {
        let check = |endpoint: &str| {
            let error = format!("{:#}", traces(endpoint, "offshoot").err().unwrap());
            assert!(error.contains("such as http://127.0.0.1:4317"), "{error}");
        };
        check("not an address");
        check("https://collector:4317");
    }

    #[test]
    fn a_panic_in_any_thread_is_counted() {
        let counter: Counter<u64, AtomicU64> = Counter::default();
        let before = std::panic::take_hook();
        count_panics(counter.clone());
        let thread = std::thread::spawn(|| panic!("on purpose"));
        assert!(thread.join().is_err());
        std::panic::set_hook(before);
        assert!(counter.get() >= 1);
    }
}
