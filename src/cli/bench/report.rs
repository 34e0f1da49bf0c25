//! What a run found, as text and as one JSON object with names that stay (durations in seconds):
//!
//! `address call connections streams client_threads rate batch keys distribution policies seconds requests
//! requests_per_second allowed denied warmup{allowed denied} keys_allowed errors reconnects latency{p50 p90 p99 p99_9 max mean} server_cpu_per_request
//! redis_cpu_per_request limit_check{policies over_admissions findings unchecked}`; what was not asked for is null.

use super::oracle::Verdict;
use super::plan::{Call, Load, Plan};
use super::run::Outcome;
use super::tally::WarmUp;
use crate::cli::screen::{Colour, Style};
use crate::cli::{json, span};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What a run found, with what it did.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it did.
    pub plan: Plan,
    /// What it found.
    pub outcome: Outcome,
}

/// Quantiles of the latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// Nine of ten are below it.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p99_9: f64,
    /// The greatest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

#[derive(Serialize)]
struct Shown<'a> {
    address: String,
    call: &'static str,
    connections: u32,
    streams: u32,
    client_threads: u32,
    rate: Option<u32>,
    batch: Option<u32>,
    keys: u32,
    distribution: &'static str,
    policies: &'a [String],
    seconds: f64,
    requests: u64,
    requests_per_second: f64,
    allowed: u64,
    denied: u64,
    warmup: Value,
    keys_allowed: u32,
    errors: &'a BTreeMap<&'static str, u64>,
    reconnects: u64,
    latency: Latency,
    server_cpu_per_request: Option<f64>,
    redis_cpu_per_request: Option<f64>,
    limit_check: Option<Value>,
}

impl Report {
    /// Requests that got a decision.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.outcome.tally.allowed + self.outcome.tally.denied
    }

    /// The same, for each second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let seconds = self.outcome.elapsed.as_secs_f64();
        // More than 2^32 answers in one run: their rate is not worth an exact cast.
        let answered = u32::try_from(self.answered()).map_or(f64::from(u32::MAX), f64::from);
        if seconds > 0.0 { answered / seconds } else { 0.0 }
    }

    /// Quantiles of the latency, in seconds.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let histogram = &self.outcome.tally.latency;
        let quantile = |q: f64| seconds(Duration::from_nanos(histogram.value_at_quantile(q)));
        Latency {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            max: seconds(Duration::from_nanos(histogram.max())),
            mean: seconds(Duration::from_secs_f64(histogram.mean().max(0.0) / 1e9)),
        }
    }

    /// One line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let Self { plan, outcome } = self;
        json::line(&Shown {
            address: plan.address.to_string(),
            call: call_name(plan.call),
            connections: plan.connections,
            streams: plan.lanes,
            client_threads: plan.threads,
            rate: rate_of(plan.load),
            batch: matches!(plan.call, Call::Stream { .. }).then(|| plan.batch()),
            keys: plan.keys,
            distribution: plan.distribution.name(),
            policies: &plan.question.policies,
            seconds: seconds(outcome.elapsed),
            requests: self.answered(),
            requests_per_second: (self.rate() * 10.0).round() / 10.0,
            allowed: outcome.tally.allowed,
            denied: outcome.tally.denied,
            warmup: json!({"allowed": outcome.tally.warmup.allowed, "denied": outcome.tally.warmup.denied}),
            keys_allowed: outcome.tally.allowed_keys.count(),
            errors: &outcome.tally.errors,
            reconnects: outcome.tally.reconnects,
            latency: self.latency(),
            server_cpu_per_request: outcome.server_cpu.map(fine_seconds),
            redis_cpu_per_request: outcome.redis_cpu.map(fine_seconds),
            limit_check: outcome.verdict.as_ref().map(|verdict| self.verdict_json(verdict)),
        })
    }

    /// Several lines for people.
    #[must_use]
    pub fn text(&self, colour: Colour) -> String {
        let Self { plan, outcome } = self;
        let mut lines: Vec<(&str, String)> = vec![("load", describe(plan)), ("asked", self.asked())];
        let rate = thousands(&format!("{:.0}", self.rate()));
        let answered = thousands(&self.answered().to_string());
        let elapsed = format!("{:.2}s", outcome.elapsed.as_secs_f64());
        lines.push(("answered", format!("{answered} in {elapsed}, {rate} a second")));
        let (allowed, denied) = (outcome.tally.allowed.to_string(), outcome.tally.denied.to_string());
        lines.push(("outcomes", format!("allow {}, deny {}", thousands(&allowed), thousands(&denied))));
        let (warmup, keys) = self.unmeasured();
        lines.push(("warm-up", warmup));
        lines.push(("keys", keys));
        lines.push(("errors", self.errors(colour)));
        let Latency { p50, p90, p99, p99_9, max, .. } = self.latency();
        let ms = |seconds: f64| format!("{:.3}", seconds * 1e3);
        let quantiles = [("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p99_9), ("max", max)]
            .map(|(name, value)| format!("{name} {}", ms(value)));
        lines.push(("latency", format!("{} ms", quantiles.join("  "))));
        for (name, cpu) in [("server CPU", outcome.server_cpu), ("redis CPU", outcome.redis_cpu)] {
            if let Some(cpu) = cpu {
                lines.push((name, format!("{:.2} us a request", cpu.as_secs_f64() * 1e6)));
            }
        }
        if let Some(verdict) = &outcome.verdict {
            lines.push(("limit check", self.verdict_text(verdict, colour)));
        }
        lines.iter().fold(String::new(), |mut text, (name, value)| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<11}  {value}");
            text
        })
    }

    fn asked(&self) -> String {
        let policies = match self.plan.question.policies.as_slice() {
            [] => "every policy that matches".to_owned(),
            named => named.join(", "),
        };
        let keys = thousands(&self.plan.keys.to_string());
        let entry = &self.plan.question.key_entry;
        format!("{policies}; {keys} keys of `{entry}`, {}", self.plan.distribution.name())
    }

    /// What the warm-up used up, and the keys that got anything at all: without them an `allow 0` is a riddle.
    fn unmeasured(&self) -> (String, String) {
        let WarmUp { allowed, denied } = self.outcome.tally.warmup;
        let counts = [allowed, denied, self.outcome.tally.allowed_keys.count().into(), self.plan.keys.into()];
        let [allowed, denied, some, all] = counts.map(|count: u64| thousands(&count.to_string()));
        let warmup = format!("allow {allowed}, deny {denied}, not in the figures");
        (warmup, format!("{some} of {all} allowed at least once, warm-up included"))
    }

    fn errors(&self, colour: Colour) -> String {
        let tally = &self.outcome.tally;
        let named =
            tally.errors.iter().map(|(why, count)| format!("{why} {}", thousands(&count.to_string())));
        let mut text = named.collect::<Vec<_>>().join(", ");
        if text.is_empty() {
            text.push_str("none");
        } else {
            text = colour.paint(Style::Bad, &text);
        }
        if tally.reconnects > 0 {
            let _ = write!(text, "; {} connections opened anew", tally.reconnects);
        }
        text
    }

    fn verdict_json(&self, verdict: &Verdict) -> Value {
        let policies = verdict.policies.iter().map(|policy| {
            json!({
                "policy": policy.policy, "window": span::seconds(policy.window), "bound": policy.bound,
                "counters": policy.counters, "most": policy.most,
            })
        });
        let findings = verdict.findings.iter().map(|finding| {
            json!({
                "policy": finding.policy, "key": self.plan.question.value(finding.key),
                "admitted": finding.admitted, "bound": finding.bound,
                "window": span::seconds(finding.window), "at": span::seconds(finding.at),
            })
        });
        json!({
            "policies": policies.collect::<Vec<_>>(), "over_admissions": verdict.over_admissions,
            "findings": findings.collect::<Vec<_>>(), "unchecked": verdict.unchecked,
        })
    }

    fn verdict_text(&self, verdict: &Verdict, colour: Colour) -> String {
        let mut text = match (verdict.over_admissions, verdict.policies.is_empty()) {
            (0, true) => {
                colour.paint(Style::Warn, "nothing to check: no answer named a policy with a window")
            }
            (0, false) => colour.paint(Style::Good, "kept"),
            (counters, _) => colour.paint(Style::Bad, &format!("BROKEN for {counters} counters")),
        };
        if verdict.unchecked > 0 {
            let _ = write!(text, "; {} admissions not checked", verdict.unchecked);
        }
        for policy in &verdict.policies {
            let (window, bound) = (span::show(policy.window), policy.bound);
            let _ = write!(
                text,
                "\n             {}: at most {} in {window}, bound {bound}, {} keys",
                policy.policy, policy.most, policy.counters
            );
        }
        for finding in &verdict.findings {
            let key = self.plan.question.value(finding.key);
            let over = format!(
                "\n             {} of {}={key}: {} in {}, bound {}, from {} on",
                finding.policy,
                self.plan.question.key_entry,
                finding.admitted,
                span::show(finding.window),
                finding.bound,
                span::show(finding.at)
            );
            text.push_str(&colour.paint(Style::Bad, &over));
        }
        text
    }
}

fn describe(plan: &Plan) -> String {
    let loop_ = match plan.load {
        Load::Closed => "closed loop".to_owned(),
        Load::Open { rate } => format!("open loop at {} a second", thousands(&rate.to_string())),
    };
    let call = match plan.call {
        Call::Unary => "CheckLimit".to_owned(),
        Call::Stream { batch } => format!("CheckLimits, {batch} checks a message"),
    };
    let threads = if plan.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", plan.threads) };
    format!(
        "{call} at {}, {loop_}, {} connections x {}, {threads}",
        plan.address, plan.connections, plan.lanes
    )
}

fn call_name(call: Call) -> &'static str {
    match call {
        Call::Unary => "check",
        Call::Stream { .. } => "stream",
    }
}

fn rate_of(load: Load) -> Option<u32> {
    match load {
        Load::Closed => None,
        Load::Open { rate } => Some(rate),
    }
}

/// Digits in groups of three.
fn thousands(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn seconds(span: Duration) -> f64 {
    span::seconds(span)
}

/// To the nanosecond: what one request costs is a few microseconds.
fn fine_seconds(span: Duration) -> f64 {
    format!("{}.{:09}", span.as_secs(), span.subsec_nanos()).parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::oracle::{Finding, PolicyVerdict};
    use super::super::plan::tests::plan;
    use super::super::tally::{Tally, Times};
    use super::*;
    use crate::cli::bench::frames::Answer;
    use crate::pb::quotad::v1;

    fn report(verdict: Option<Verdict>) -> Report {
        let mut tally = Tally::new().unwrap();
        let times = Times { due: 20_000_000, sent: 20_000_000, received: 22_000_000 };
        tally.answered(times, &Answer { outcome: v1::Outcome::Allow, decision: None });
        tally.answered(times, &Answer { outcome: v1::Outcome::Deny, decision: None });
        tally.saw(3, &Answer { outcome: v1::Outcome::Allow, decision: None });
        tally.warmed_up(&Answer { outcome: v1::Outcome::Deny, decision: None });
        tally.failed("UNAVAILABLE", 1_234);
        let outcome = Outcome {
            tally,
            elapsed: Duration::from_millis(500),
            server_cpu: Some(Duration::from_nanos(6_750)),
            redis_cpu: None,
            verdict,
        };
        Report { plan: plan("127.0.0.1:50051".parse().unwrap()), outcome }
    }

    fn broken() -> Verdict {
        let window = Duration::from_secs(60);
        Verdict {
            policies: vec![PolicyVerdict {
                policy: "p".to_owned(),
                window,
                bound: 10,
                counters: 7,
                most: 12,
            }],
            over_admissions: 1,
            findings: vec![Finding {
                policy: "p".to_owned(),
                key: 3,
                admitted: 12,
                bound: 10,
                window,
                at: Duration::from_millis(1_500),
            }],
            unchecked: 0,
        }
    }

    #[test]
    fn text_is_for_people() {
        let expected = "\
load         CheckLimit at 127.0.0.1:50051, closed loop, 2 connections x 4, 1 thread
asked        every policy that matches; 10 keys of `user`, uniform
answered     2 in 0.50s, 4 a second
outcomes     allow 1, deny 1
warm-up      allow 0, deny 1, not in the figures
keys         1 of 10 allowed at least once, warm-up included
errors       UNAVAILABLE 1,234
latency      p50 2.000  p90 2.000  p99 2.000  p99.9 2.000  max 2.000 ms
server CPU   6.75 us a request
limit check  BROKEN for 1 counters
             p: at most 12 in 1m, bound 10, 7 keys
             p of user=bench-3: 12 in 1m, bound 10, from 1.5s on
";
        assert_eq!(report(Some(broken())).text(Colour::Off), expected);
    }

    #[test]
    fn json_has_stable_names_and_seconds() {
        let value: Value = serde_json::from_str(&report(Some(broken())).json()).unwrap();
        assert_eq!(value["requests"], 2);
        assert_eq!(value["requests_per_second"], 4.0);
        assert_eq!(value["errors"]["UNAVAILABLE"], 1_234);
        assert_eq!((&value["warmup"]["denied"], &value["keys_allowed"]), (&1.into(), &1.into()));
        assert_eq!(value["server_cpu_per_request"], 0.000_006_75);
        assert_eq!(value["redis_cpu_per_request"], Value::Null);
        assert_eq!(value["limit_check"]["over_admissions"], 1);
        assert_eq!(value["limit_check"]["findings"][0]["key"], "bench-3");
        assert!((value["latency"]["p99_9"].as_f64().unwrap() - 0.002).abs() < 0.000_005);
        assert_eq!(value["rate"], Value::Null);
        let value: Value = serde_json::from_str(&report(None).json()).unwrap();
        assert_eq!(value["limit_check"], Value::Null);
    }

    #[test]
    fn thousands_are_grouped() {
        for (digits, text) in [("0", "0"), ("999", "999"), ("1000", "1,000"), ("1234567", "1,234,567")] {
            assert_eq!(thousands(digits), text);
        }
    }
}
