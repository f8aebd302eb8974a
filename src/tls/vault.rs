//! The authorities of a cluster and the controller's own key, and when each is exchanged.
//!
//! What nobody trusts yet may not sign, and what has signed must be trusted until the last of it has ended. So an
//! authority is exchanged in steps: a second one is made and trusted beside the first; after as long as a certificate
//! lasts (by then every agent has been given a new one, and the new authority with it) it signs; the first is trusted
//! until its own end, which nothing that it signed outlives. Which step is due is decided from the lifetimes
//! alone, so whoever comes next, after any crash and on any replica, decides the same.

use std::collections::BTreeMap;
use std::time::Duration;

use super::authority::{Authority, Lifetime};
use super::keys::{Bundle, Refused, SecretText, certificates, validity};
use super::role::Role;

/// The authority that signs.
const AUTHORITY: [&str; 2] = ["authority.crt", "authority.key"];
/// The authority that is trusted and does not sign yet.
const NEXT: [&str; 2] = ["next.crt", "next.key"];
/// The authorities that no longer sign.
const RETIRED: &str = "retired.crt";
/// The controller's own.
const CONTROLLER: [&str; 2] = ["tls.crt", "tls.key"];
/// All that is trusted.
pub const TRUSTED: &str = "ca.crt";

/// How much longer an authority lasts than what it signs.
const AUTHORITY_LASTS: u32 = 10;

/// What a cluster keeps in one place.
pub struct Vault {
    signing: Authority,
    next: Option<Authority>,
    retired: Vec<String>,
    controller: Option<(String, SecretText)>,
}

/// The lifetimes in a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Of the authority that signs.
    pub signing: Lifetime,
    /// Of the one that will.
    pub next: Option<Lifetime>,
    /// Of those that did.
    pub retired: Vec<Lifetime>,
    /// Of the controller's certificate, where it has a good one.
    pub controller: Option<Lifetime>,
}

/// What is to be done with a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Trust a new authority beside the one that signs.
    MakeNext,
    /// Let the next authority sign, and keep trusting the one before.
    Promote,
    /// Stop trusting authorities that have ended.
    DropRetired,
    /// Make a new certificate for the controller.
    IssueController,
}

/// What is due at `now`, where certificates last as long as `lasts`.
pub fn due(facts: &Facts, now: Duration, lasts: Duration) -> Vec<Step> {
    let mut steps = Vec::new();
    if facts.retired.iter().any(|old| old.until <= now) {
        steps.push(Step::DropRetired);
    }
    match facts.next {
        None if a_third_is_left(facts.signing, now) => steps.push(Step::MakeNext),
        None => {}
        Some(next) => {
            // Where there is no time for that, half of what is left: an authority must not end before the next one signs.
            let rest = facts.signing.until.saturating_sub(next.from) / 2;
            if now >= next.from + lasts.min(rest) {
                steps.push(Step::Promote);
            }
        }
    }
    if facts.controller.is_none_or(|own| a_third_is_left(own, now)) {
        steps.push(Step::IssueController);
    }
    steps
}

/// The certificates in a PEM text, each as a text of its own.
fn blocks(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let whole = pem.split_inclusive(END).filter(|block| block.ends_with(END));
    whole.map(|block| format!("{}\n", block.trim())).collect()
}

/// The authorities of several PEM texts, each once.
pub fn union(texts: &[&str]) -> String {
    let mut all: Vec<String> = Vec::new();
    for block in texts.iter().flat_map(|text| blocks(text)) {
        if !all.contains(&block) {
            all.push(block);
        }
    }
    all.concat()
}

fn a_third_is_left(of: Lifetime, now: Duration) -> bool {
    of.until.saturating_sub(now) <= of.until.saturating_sub(of.from) / 3
}

impl Vault {
    /// A new authority and a key for the controller.
    pub fn make(now: Duration, lasts: Duration) -> Result<Vault, Refused> {
        let signing = Authority::make(Lifetime::starting(now, lasts * AUTHORITY_LASTS))?;
        let mut vault = Vault { signing, next: None, retired: Vec::new(), controller: None };
        vault.advance(now, lasts)?;
        Ok(vault)
    }

    /// Reads a vault from its parts by name; `None` where there is no part at all.
    ///
    /// Refuses a vault without its signing authority: to make another one would lock every agent out that trusts the one before.
    pub fn read(parts: &BTreeMap<String, String>) -> Result<Option<Vault>, Refused> {
        let part = |name: &str| parts.get(name).map(String::as_str).filter(|text| !text.is_empty());
        if parts.values().all(String::is_empty) {
            return Ok(None);
        }
        let authority = |[certificate, key]: [&str; 2]| match (part(certificate), part(key)) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Authority::load(certificate, &SecretText::from(key.to_owned())).map(Some)
            }
            _ => Err(Refused::new(format!("only one of {certificate} and {key} is there"))),
        };
        let Some(signing) = authority(AUTHORITY)? else {
            return Err(Refused::new(format!("{} and {} are missing", AUTHORITY[0], AUTHORITY[1])));
        };
        let retired = blocks(part(RETIRED).unwrap_or_default());
        if certificates(RETIRED, &retired.concat())?.len() != retired.len() {
            return Err(Refused::new(format!("{RETIRED} is damaged")));
        }
        let controller = match CONTROLLER.map(part) {
            [Some(certificate), Some(key)] => {
                Some((certificate.to_owned(), SecretText::from(key.to_owned())))
            }
            _ => None,
        };
        let mut vault = Vault { signing, next: authority(NEXT)?, retired, controller };
        // A damaged key of the controller is made anew: the authority is there.
        if vault.bundle().is_some_and(|bundle| bundle.check(&Role::Controller).is_err()) {
            vault.controller = None;
        }
        Ok(Some(vault))
    }

    /// The parts by name. What is no longer there is not in it.
    pub fn parts(&self) -> BTreeMap<String, String> {
        let mut parts = BTreeMap::new();
        let mut put = |name: &str, text: &str| parts.insert(name.to_owned(), text.to_owned());
        put(AUTHORITY[0], self.signing.certificate());
        put(AUTHORITY[1], self.signing.key().expose());
        if let Some(next) = &self.next {
            put(NEXT[0], next.certificate());
            put(NEXT[1], next.key().expose());
        }
        if !self.retired.is_empty() {
            put(RETIRED, &self.retired.concat());
        }
        if let Some((certificate, key)) = &self.controller {
            put(CONTROLLER[0], certificate);
            put(CONTROLLER[1], key.expose());
        }
        put(TRUSTED, &self.trusted());
        parts
    }

    /// Every authority that may be trusted now, PEM.
    pub fn trusted(&self) -> String {
        let mut trusted = self.signing.certificate().to_owned();
        if let Some(next) = &self.next {
            trusted += next.certificate();
        }
        trusted + &self.retired.concat()
    }

    /// The controller's keys, once they are made.
    pub fn bundle(&self) -> Option<Bundle> {
        let (certificate, key) = self.controller.clone()?;
        Some(Bundle { certificate, key, authorities: self.trusted() })
    }

    /// The certificate of the key in a request (DER), for `role`.
    pub fn sign(&self, request: &[u8], role: &Role, lifetime: Lifetime) -> Result<String, Refused> {
        self.signing.sign(request, role, lifetime)
    }

    fn facts(&self) -> Result<Facts, Refused> {
        let of = |pem: &String| {
            let all = certificates("a certificate", pem)?;
            all.first()
                .map_or_else(|| Err(Refused::new("a certificate is empty".to_owned())), |der| validity(der))
        };
        Ok(Facts {
            signing: self.signing.lifetime(),
            next: self.next.as_ref().map(Authority::lifetime),
            retired: self.retired.iter().map(of).collect::<Result<_, _>>()?,
            controller: self.controller.as_ref().map(|(certificate, _)| of(certificate)).transpose()?,
        })
    }

    /// Does everything that is due. What was done; nothing means that the vault is as it was.
    pub fn advance(&mut self, now: Duration, lasts: Duration) -> Result<Vec<Step>, Refused> {
        let steps = due(&self.facts()?, now, lasts);
        for step in &steps {
            match step {
                Step::MakeNext => {
                    self.next = Some(Authority::make(Lifetime::starting(now, lasts * AUTHORITY_LASTS))?);
                }
                Step::Promote => {
                    if let Some(next) = self.next.take() {
                        let old = std::mem::replace(&mut self.signing, next);
                        self.retired.push(old.certificate().to_owned());
                    }
                }
                Step::DropRetired => {
                    let ends = self.facts()?.retired;
                    let mut ends = ends.iter();
                    self.retired.retain(|_| ends.next().is_some_and(|old| old.until > now));
                }
                Step::IssueController => {
                    let lifetime = Lifetime::starting(now, lasts);
                    let issued = self.signing.issue(&Role::Controller, lifetime, String::new())?;
                    self.controller = Some((issued.certificate, issued.key));
                }
            }
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const LASTS: Duration = Duration::from_secs(30 * DAY);

    fn days(n: u64) -> Duration {
        Duration::from_secs(n * DAY)
    }

    fn life(from: u64, until: u64) -> Lifetime {
        Lifetime { from: days(from), until: days(until) }
    }

    #[test]
    fn each_step_is_due_when_the_lifetimes_say_so() {
        use Step::*;
        fn check(
            now: u64,
            next: Option<(u64, u64)>,
            retired: &[(u64, u64)],
            own: Option<(u64, u64)>,
            expect: &[Step],
        ) {
            let facts = Facts {
                signing: life(0, 300),
                next: next.map(|(from, until)| life(from, until)),
                retired: retired.iter().map(|&(from, until)| life(from, until)).collect(),
                controller: own.map(|(from, until)| life(from, until)),
            };
            assert_eq!(due(&facts, days(now), LASTS), expect, "day {now} {facts:?}");
        }
        // The controller's own: made where it is missing, and anew when a third is left.
        check(0, None, &[], None, &[IssueController]);
        check(19, None, &[], Some((0, 30)), &[]);
        check(20, None, &[], Some((0, 30)), &[IssueController]);
        check(40, None, &[], Some((0, 30)), &[IssueController]);
        // The authority: the next one when a third is left, which signs after as long as a certificate lasts.
        check(199, None, &[], Some((190, 220)), &[]);
        check(200, None, &[], Some((190, 220)), &[MakeNext]);
        check(201, Some((200, 500)), &[], Some((190, 220)), &[]);
        check(229, Some((200, 500)), &[], Some((220, 250)), &[]);
        check(230, Some((200, 500)), &[], Some((220, 250)), &[Promote]);
        // The one before is trusted until its end.
        check(100, None, &[(0, 101)], Some((90, 120)), &[]);
        check(101, None, &[(0, 101)], Some((90, 120)), &[DropRetired]);
        // Late: half of what is left, and at once where nothing is.
        check(289, Some((280, 580)), &[], Some((280, 310)), &[]);
        check(290, Some((280, 580)), &[], Some((280, 310)), &[Promote]);
        check(400, Some((400, 700)), &[], Some((390, 420)), &[Promote]);
        // Several at once.
        check(200, None, &[(0, 150)], None, &[DropRetired, MakeNext, IssueController]);
    }

    /// A vault whose life is simulated day by day: what agents trust is never behind what signs.
    #[test]
    fn over_years_whatever_is_valid_is_trusted_by_whoever_was_enrolled_within_a_lifetime() {
        let mut vault = Vault::make(days(10_000), LASTS).unwrap();
        let mut promoted = 0;
        // What an agent that was enrolled on a day has: who signed it, and whom it trusts.
        let mut enrolled: Vec<(String, String)> = Vec::new();
        for day in 10_000..11_200u64 {
            let steps = vault.advance(days(day), LASTS).unwrap();
            promoted += steps.iter().filter(|step| **step == Step::Promote).count();
            enrolled.push((vault.signing.certificate().to_owned(), vault.trusted()));
            let own = vault.facts().unwrap();
            assert!(own.controller.unwrap().until > days(day) && own.signing.until > days(day), "{day}");
            for (signer, trusted) in enrolled.iter().rev().take(30) {
                assert!(vault.trusted().contains(signer.as_str()), "day {day}: an agent is not trusted");
                assert!(
                    trusted.contains(vault.signing.certificate()),
                    "day {day}: an agent does not trust the signer"
                );
            }
            if day % 100 == 0 {
                vault = Vault::read(&vault.parts()).unwrap().unwrap();
            }
        }
        assert!(promoted >= 4, "{promoted}");
        assert!(vault.retired.len() <= 1);
    }

    #[test]
    fn a_vault_is_read_back_made_where_there_is_none_and_refused_where_half_is_missing() {
        // Its own key is only good at this time.
        let vault = Vault::make(super::super::now(), LASTS).unwrap();
        let parts = vault.parts();
        assert_eq!(Vault::read(&parts).unwrap().unwrap().parts(), parts);
        assert!(Vault::read(&BTreeMap::new()).unwrap().is_none());
        let empty = parts.keys().map(|name| (name.clone(), String::new())).collect();
        assert!(Vault::read(&empty).unwrap().is_none());
        let refuse = |name: &str, text: &str, expect: &str| {
            let mut parts = parts.clone();
            parts.insert(name.to_owned(), text.to_owned());
            let error = Vault::read(&parts).err().unwrap().to_string();
            assert!(error.contains(expect), "{error}");
            assert!(!error.contains("PRIVATE"), "{error}");
        };
        refuse("authority.key", "", "only one of");
        refuse("authority.crt", "damaged", "not PEM");
        refuse("next.crt", &parts["authority.crt"], "only one of");
        // The controller's own can be made anew.
        for name in ["tls.key", "tls.crt"] {
            let mut parts = parts.clone();
            parts.insert(name.to_owned(), "damaged".to_owned());
            let mut read = Vault::read(&parts).unwrap().unwrap();
            assert_eq!(read.advance(super::super::now(), LASTS).unwrap(), [Step::IssueController]);
            assert!(read.bundle().unwrap().check(&Role::Controller).is_ok());
        }
    }
}
