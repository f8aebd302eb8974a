//! A scenario's own namespace, and what is done in it.

mod shapes;

use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};

use crate::objects::{
    CLAIM, EVENT, GROUP, Kind, NAMESPACE, POD, SNAPSHOT, VOLUME, bytes, condition, name, text,
};
use crate::setup::Env;

use shapes::END;
pub(crate) use shapes::{Claim, Pod};

/// How long anything may take that takes seconds on a quiet machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(150);

/// A namespace.
#[derive(Clone)]
pub(crate) struct Space {
    /// The cluster.
    pub(crate) env: Rc<Env>,
    /// Its name.
    pub(crate) name: String,
}

impl Space {
    /// Makes it.
    ///
    /// # Errors
    /// If it is there already.
    pub(crate) async fn create(env: &Rc<Env>, name: &str) -> Result<Self> {
        let labels = json!({"offshoot.dev/e2e": "", "pod-security.kubernetes.io/enforce": "privileged"});
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        env.objects.create(&object).await?;
        Ok(Self { env: env.clone(), name: name.to_owned() })
    }

    /// Deletes it with everything in it, and waits until it is gone.
    ///
    /// # Errors
    /// If it is still there after the time limit; the error has the reasons that Kubernetes gives.
    pub(crate) async fn delete(&self) -> Result<()> {
        self.env.objects.delete(NAMESPACE, "", &self.name, None).await?;
        let gone = until("the namespace is gone", LIMIT, async || {
            Ok(self.env.objects.get(NAMESPACE, "", &self.name).await?.is_none().then_some(()))
        });
        if let Err(error) = gone.await {
            let left = self.env.objects.get(NAMESPACE, "", &self.name).await?.unwrap_or_default();
            let why: Vec<_> = [
                "NamespaceContentRemaining",
                "NamespaceFinalizersRemaining",
                "NamespaceDeletionContentFailure",
            ]
            .iter()
            .filter_map(|kind| condition(&left, kind, "True"))
            .collect();
            return Err(error.context(why.join("; ")));
        }
        Ok(())
    }

    /// Makes an object in it.
    ///
    /// # Errors
    /// If the API server refuses.
    pub(crate) async fn make(&self, mut object: Value) -> Result<Value> {
        object["metadata"]["namespace"] = json!(self.name);
        self.env.objects.create(&object).await
    }

    /// An object that must be there.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Result<Value> {
        let found = self.env.objects.get(kind, &self.name, name).await?;
        found.with_context(|| format!("{} {name} is not there", kind.name))
    }

    /// Changes an object.
    ///
    /// # Errors
    /// If it is not there, or the change is refused.
    pub(crate) async fn patch(&self, kind: Kind, name: &str, patch: Value) -> Result<Value> {
        self.env.objects.patch(kind, &self.name, name, &patch).await
    }

    /// Deletes an object and waits until it is gone.
    ///
    /// # Errors
    /// If it stays.
    pub(crate) async fn remove(&self, kind: Kind, name: &str) -> Result<()> {
        self.env.objects.delete(kind, &self.name, name, None).await?;
        self.gone(kind, name).await
    }

    /// Waits until an object is gone.
    ///
    /// # Errors
    /// If it stays.
    pub(crate) async fn gone(&self, kind: Kind, name: &str) -> Result<()> {
        until(&format!("{} {name} is gone", kind.name), LIMIT, async || {
            Ok(self.env.objects.get(kind, &self.name, name).await?.is_none().then_some(()))
        })
        .await
    }

    /// Waits until an object is as it should be, and gives it back. A failure has the object's status and its events.
    ///
    /// # Errors
    /// If it is not in time, or `is` says that it never will be.
    pub(crate) async fn becomes(
        &self,
        kind: Kind,
        name: &str,
        what: &str,
        is: impl Fn(&Value) -> Result<bool>,
    ) -> Result<Value> {
        let title = format!("{} {name} {what}", kind.name);
        let found = until(&title, LIMIT, async || {
            let object = self.get(kind, name).await?;
            Ok(is(&object)?.then_some(object))
        });
        match found.await {
            Ok(object) => Ok(object),
            Err(error) => {
                let status =
                    self.get(kind, name).await.map(|object| object["status"].to_string()).unwrap_or_default();
                let events = self.events(name).await.unwrap_or_default();
                Err(error.context(format!("{title}\n  status {status}\n  {}", events.join("\n  "))))
            }
        }
    }

    /// Waits until a pod's containers all run and are ready.
    ///
    /// # Errors
    /// If they do not, or have ended.
    pub(crate) async fn running(&self, pod: &str) -> Result<Value> {
        self.becomes(POD, pod, "runs", |pod| {
            ensure!(!["Failed", "Succeeded"].contains(&text(pod, "/status/phase").as_str()), "it has ended");
            Ok(condition(pod, "Ready", "True").is_some())
        })
        .await
    }

    /// Waits until a pod of [`Pod::script`] has ended well, and gives back what it wrote.
    ///
    /// # Errors
    /// If it fails, or does not end.
    pub(crate) async fn finished(&self, pod: &str) -> Result<String> {
        let ended = self.becomes(POD, pod, "ends", |pod| {
            Ok(["Failed", "Succeeded"].contains(&text(pod, "/status/phase").as_str()))
        });
        let ended = ended.await?;
        let log = async || self.kubectl(&["logs", pod]).await;
        ensure!(text(&ended, "/status/phase") == "Succeeded", "pod {pod} has failed: {}", log().await?);
        until(&format!("the log of pod {pod} is whole"), LIMIT, async || {
            Ok(log().await?.trim_end().strip_suffix(END).map(str::to_owned))
        })
        .await
    }

    /// Makes a pod and waits until it runs.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) async fn start(&self, pod: Pod) -> Result<Value> {
        let made = self.make(pod.object()).await?;
        self.running(&name(&made)).await
    }

    /// Makes a pod with a script, waits until it has ended well, deletes it, and gives back what it wrote.
    ///
    /// # Errors
    /// If it fails.
    pub(crate) async fn once(&self, pod: Pod) -> Result<String> {
        let made = self.make(pod.object()).await?;
        let said = self.finished(&name(&made)).await?;
        self.remove(POD, &name(&made)).await?;
        Ok(said)
    }

    /// Makes a claim without waiting.
    ///
    /// # Errors
    /// If the API server refuses.
    pub(crate) async fn claim(&self, claim: Claim) -> Result<Value> {
        self.make(claim.object()).await
    }

    /// Waits until a claim is bound, and gives back its volume.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) async fn bound(&self, claim: &str) -> Result<Value> {
        let bound = self
            .becomes(CLAIM, claim, "is bound", |claim| Ok(text(claim, "/status/phase") == "Bound"))
            .await?;
        let volume = text(&bound, "/spec/volumeName");
        self.env
            .objects
            .get(VOLUME, "", &volume)
            .await?
            .with_context(|| format!("volume {volume} is not there"))
    }

    /// Waits until a claim has a size.
    ///
    /// # Errors
    /// If it has not.
    pub(crate) async fn sized(&self, claim: &str, size: &str) -> Result<()> {
        let wanted = bytes(size).context("not a size")?;
        self.becomes(CLAIM, claim, &format!("has {size}"), |claim| {
            Ok(bytes(&text(claim, "/status/capacity/storage")).is_some_and(|has| has >= wanted))
        })
        .await
        .map(|_| ())
    }

    /// Makes a snapshot of a claim and waits until it can be used.
    ///
    /// # Errors
    /// If it cannot.
    pub(crate) async fn snapshot(&self, snapshot: &str, claim: &str) -> Result<Value> {
        self.make(json!({
            "apiVersion": SNAPSHOT.api, "kind": SNAPSHOT.name, "metadata": {"name": snapshot},
            "spec": {"volumeSnapshotClassName": "e2e", "source": {"persistentVolumeClaimName": claim}},
        }))
        .await?;
        self.ready(SNAPSHOT, snapshot).await
    }

    /// Makes a snapshot of all claims with a label `group`, and waits until it can be used.
    ///
    /// # Errors
    /// If it cannot.
    pub(crate) async fn group_snapshot(&self, snapshot: &str, group: &str) -> Result<Value> {
        self.make(json!({
            "apiVersion": GROUP.api, "kind": GROUP.name, "metadata": {"name": snapshot},
            "spec": {"volumeGroupSnapshotClassName": "e2e", "source": {"selector": {"matchLabels": {"group": group}}}},
        }))
        .await?;
        self.ready(GROUP, snapshot).await
    }

    /// Waits until a snapshot can be used.
    ///
    /// # Errors
    /// If it cannot.
    pub(crate) async fn ready(&self, kind: Kind, snapshot: &str) -> Result<Value> {
        self.becomes(kind, snapshot, "can be used", |snapshot| {
            Ok(snapshot["status"]["readyToUse"] == json!(true))
        })
        .await
    }

    /// The node that a pod was put on.
    ///
    /// # Errors
    /// If it is not there.
    pub(crate) async fn node_of(&self, pod: &str) -> Result<String> {
        Ok(text(&self.get(POD, pod).await?, "/spec/nodeName"))
    }

    /// What was reported about objects of a name, the oldest first.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub(crate) async fn events(&self, about: &str) -> Result<Vec<String>> {
        let mut all = self.env.objects.list(EVENT, &self.name).await?;
        all.retain(|event| text(event, "/involvedObject/name") == about);
        all.sort_by_key(|event| text(event, "/lastTimestamp"));
        Ok(all
            .iter()
            .map(|event| format!("{}: {}", text(event, "/reason"), text(event, "/message")))
            .collect())
    }

    /// Waits until something was reported about an object that has these words in it.
    ///
    /// # Errors
    /// If it was not; the error has what was reported instead.
    pub(crate) async fn told(&self, about: &str, words: &[&str]) -> Result<String> {
        let title = format!("an event of {about} says {words:?}");
        let found = until(&title, LIMIT, async || {
            let events = self.events(about).await?;
            Ok(events.into_iter().find(|event| words.iter().all(|word| event.contains(word))))
        });
        match found.await {
            Ok(event) => Ok(event),
            Err(error) => Err(error.context(format!("instead: {:#?}", self.events(about).await?))),
        }
    }

    /// Runs a shell script in a pod and gives back what it wrote, without the last newline.
    ///
    /// # Errors
    /// If it fails; the error has what it said.
    pub(crate) async fn exec(&self, pod: &str, script: &str) -> Result<String> {
        Ok(self.kubectl(&["exec", pod, "--", "sh", "-c", script]).await?.trim_end().to_owned())
    }

    /// Runs kubectl in the namespace.
    ///
    /// # Errors
    /// If it fails; the error has what it said.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.env.kubectl(&[&["--namespace", &self.name], args].concat()).await
    }
}

/// Asks again and again until there is an answer. A question that fails is asked again too, except once the time is over.
///
/// # Errors
/// If there is none in time.
pub(crate) async fn until<T>(
    what: &str,
    limit: Duration,
    ask: impl AsyncFn() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let answer = ask().await;
        match answer {
            Ok(Some(found)) => return Ok(found),
            Err(error) if Instant::now() > end || error.to_string() == "it has ended" => {
                return Err(error.context(format!("waiting until {what}")));
            }
            Ok(None) if Instant::now() > end => {
                return Err(anyhow!("not after {} s: {what}", limit.as_secs()));
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Runs a program to its end and gives back what it wrote.
///
/// # Errors
/// If it cannot be started or fails; the error has what it said.
pub(crate) async fn program(command: &mut tokio::process::Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).kill_on_drop(true).output().await.context("cannot start a program")?;
    if !output.status.success() {
        bail!(
            "{}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim(),
            String::from_utf8_lossy(&output.stdout).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
