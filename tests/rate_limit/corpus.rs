//! The cases: rules, what is asked of them and when, and every word of the answers.

use quotad::engine::rate_limit::{OverLimit, RateLimitOptions, TrioNames};

/// Second of the clock, request, answer.
pub(crate) type Step = (u64, &'static str, &'static str);

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) rules: Vec<&'static str>,
    pub(crate) options: RateLimitOptions,
    pub(crate) steps: Vec<Step>,
}

/// A case without options.
pub(crate) fn case(name: &'static str, rules: &[&'static str], steps: Vec<Step>) -> Case {
    Case { name, rules: rules.to_vec(), options: plain(), steps }
}

fn with(options: RateLimitOptions, case: Case) -> Case {
    Case { options, ..case }
}

/// No options.
pub(crate) fn plain() -> RateLimitOptions {
    RateLimitOptions::default()
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let groups = [
        counting(),
        finding(),
        brought(),
        peeks(),
        stopping(),
        kinds(),
        quotas_in_shadow(),
        headers(),
        metadata(),
        native(),
    ];
    groups.into_iter().flatten().collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn counting() -> Vec<Case> {
    vec![
        case(
            "an unmatched descriptor is OK and shows nothing",
            &["a 1/minute"],
            vec![
                (2222, "b=1", "OK: OK -"),
                (2222, "a=1>b=1", "OK: OK -"),
                (2222, "b=1 | a=1 | c=1", "OK: OK - | OK 1/MINUTE r=0 t=58 | OK -"),
            ],
        ),
        case(
            "what is left goes down to nothing and the time to the window's end",
            &["a name=n 3/minute"],
            vec![
                (2222, "a=1", "OK: OK n 3/MINUTE r=2 t=58"),
                (2224, "a=1", "OK: OK n 3/MINUTE r=1 t=56"),
                (2279, "a=1", "OK: OK n 3/MINUTE r=0 t=1"),
                (2279, "a=1", "OVER_LIMIT: OVER_LIMIT n 3/MINUTE r=0 t=1"),
                (2280, "a=1", "OK: OK n 3/MINUTE r=2 t=60"),
                (2280, "a=2", "OK: OK n 3/MINUTE r=2 t=60"),
            ],
        ),
        case(
            "every unit is a fixed window from 1970 on",
            &["s 1/second", "h 1/hour", "d 1/day", "w 1/week", "m 1/month", "y 1/year"],
            vec![(
                2222,
                "s=1 | h=1 | d=1 | w=1 | m=1 | y=1",
                "OK: OK 1/SECOND r=0 t=1 | OK 1/HOUR r=0 t=1378 | OK 1/DAY r=0 t=84178 | OK 1/WEEK r=0 t=602578 \
                 | OK 1/MONTH r=0 t=2589778 | OK 1/YEAR r=0 t=31533778",
            )],
        ),
        case(
            "each descriptor has its own code, and all are counted though one is over",
            &["a 10/minute", "b 1/minute"],
            vec![
                (2222, "a=1 | b=1", "OK: OK 10/MINUTE r=9 t=58 | OK 1/MINUTE r=0 t=58"),
                (2222, "a=1 | b=1", "OVER_LIMIT: OK 10/MINUTE r=8 t=58 | OVER_LIMIT 1/MINUTE r=0 t=58"),
                (2222, "a=1 | b=1", "OVER_LIMIT: OK 10/MINUTE r=7 t=58 | OVER_LIMIT 1/MINUTE r=0 t=58"),
                (2222, "a=1", "OK: OK 10/MINUTE r=6 t=58"),
            ],
        ),
        case(
            "a limit of 0 is a ban",
            &["a 0/minute"],
            vec![
                (2222, "a=1", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=58"),
                (2222, "a=1", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=58"),
            ],
        ),
        case(
            "what is unlimited is not counted",
            &["a unlimited name=n"],
            vec![(2222, "a=1", "OK: OK - r=4294967295"), (2222, "a=1 hits=99", "OK: OK - r=4294967295")],
        ),
        case(
            "the same descriptor twice counts twice",
            &["a 10/minute"],
            vec![
                (2222, "a=1 | a=1", "OK: OK 10/MINUTE r=9 t=58 | OK 10/MINUTE r=8 t=58"),
                (2222, "a=1 | a=1 hits=0", "OK: OK 10/MINUTE r=7 t=58 | OK 10/MINUTE r=7 t=58"),
                (
                    2222,
                    "a=1 hits=7 | a=1",
                    "OVER_LIMIT: OK 10/MINUTE r=0 t=58 | OVER_LIMIT 10/MINUTE r=0 t=58",
                ),
            ],
        ),
        case(
            "more hits than there is room for are refused and counted",
            &["a 10/minute"],
            vec![
                (2222, "a=1 hits=8", "OK: OK 10/MINUTE r=2 t=58"),
                (2222, "a=1 hits=5", "OVER_LIMIT: OVER_LIMIT 10/MINUTE r=0 t=58"),
                (2222, "a=1", "OVER_LIMIT: OVER_LIMIT 10/MINUTE r=0 t=58"),
            ],
        ),
        case(
            "hits of any size only ever fill the window",
            &["a 4294967295/minute"],
            vec![
                (2222, "a=1 hits=18446744073709551615", "OVER_LIMIT: OVER_LIMIT 4294967295/MINUTE r=0 t=58"),
                (2222, "a=1", "OVER_LIMIT: OVER_LIMIT 4294967295/MINUTE r=0 t=58"),
                (2280, "a=1", "OK: OK 4294967295/MINUTE r=4294967294 t=60"),
            ],
        ),
        case(
            "hits of the request are those of each descriptor that has none",
            &["a 10/minute", "b 10/minute"],
            vec![
                (2222, "a=1 | b=1 hits=2 all=3", "OK: OK 10/MINUTE r=7 t=58 | OK 10/MINUTE r=8 t=58"),
                (2222, "a=1 all=0", "OK: OK 10/MINUTE r=6 t=58"),
            ],
        ),
        case(
            "hits that are given back are there again, down to nothing and never over",
            &["a 5/minute"],
            vec![
                (2222, "a=1 hits=9", "OVER_LIMIT: OVER_LIMIT 5/MINUTE r=0 t=58"),
                (2222, "a=1 hits=6 back", "OK: OK 5/MINUTE r=2 t=58"),
                (2222, "a=1 back", "OK: OK 5/MINUTE r=3 t=58"),
                (2222, "a=1 hits=99 back", "OK: OK 5/MINUTE r=5 t=58"),
                (2222, "a=1", "OK: OK 5/MINUTE r=4 t=58"),
                (2222, "a=2 back", "OK: OK 5/MINUTE r=5 t=58"),
                (
                    2222,
                    "a=1 hits=3 | a=1 hits=2 back | a=1",
                    "OK: OK 5/MINUTE r=1 t=58 | OK 5/MINUTE r=3 t=58 | OK 5/MINUTE r=2 t=58",
                ),
                (2222, "a=1 back | a=1 back", "OK: OK 5/MINUTE r=3 t=58 | OK 5/MINUTE r=4 t=58"),
            ],
        ),
    ]
}

fn finding() -> Vec<Case> {
    vec![
        case(
            "an exact value goes before a pattern before the key",
            &["a=foo 1/minute", "a=f* 2/minute", "a 3/minute"],
            vec![
                (2222, "a=foo", "OK: OK 1/MINUTE r=0 t=58"),
                (2222, "a=foo1", "OK: OK 2/MINUTE r=1 t=58"),
                (2222, "a=foo2", "OK: OK 2/MINUTE r=1 t=58"),
                (2222, "a=bar", "OK: OK 3/MINUTE r=2 t=58"),
                (2222, "a=Foo", "OK: OK 3/MINUTE r=2 t=58"),
            ],
        ),
        case(
            "a path is as deep as its descriptor",
            &["a", "a>b 2/minute", "c 2/minute"],
            vec![
                (2222, "a=1", "OK: OK -"),
                (2222, "a=1>b=2", "OK: OK 2/MINUTE r=1 t=58"),
                (2222, "a=1>b=2>c=3", "OK: OK -"),
                (2222, "a=9>b=2", "OK: OK 2/MINUTE r=1 t=58"),
            ],
        ),
        case(
            "values that share a threshold share a counter",
            &["f=files/* 3/minute shared", "g=files/* 3/minute"],
            vec![
                (2222, "f=files/a", "OK: OK 3/MINUTE r=2 t=58"),
                (2222, "f=files/b", "OK: OK 3/MINUTE r=1 t=58"),
                (2222, "f=files/*", "OK: OK 3/MINUTE r=0 t=58"),
                (2222, "g=files/a", "OK: OK 3/MINUTE r=2 t=58"),
                (2222, "g=files/b", "OK: OK 3/MINUTE r=2 t=58"),
            ],
        ),
        case(
            "a pattern of keys shares a counter among the values of each key",
            &["us*=v* 5/minute shared", "k*h 5/minute shared"],
            vec![
                (2222, "us1=v1", "OK: OK 5/MINUTE r=4 t=58"),
                (2222, "us1=v2", "OK: OK 5/MINUTE r=3 t=58"),
                (2222, "us2=v2", "OK: OK 5/MINUTE r=4 t=58"),
                (2222, "us*=v2", "OK: OK 5/MINUTE r=4 t=58"),
                (2222, "us*=v*", "OK: OK 5/MINUTE r=3 t=58"),
                (2222, "k1=ah", "OK: OK 5/MINUTE r=4 t=58"),
                (2222, "k1=bh", "OK: OK 5/MINUTE r=3 t=58"),
                (2222, "k2=bh", "OK: OK 5/MINUTE r=4 t=58"),
                (2222, "k2=b", "OK: OK -"),
                (2222, "k*h=b", "OK: OK 5/MINUTE r=4 t=58"),
                (2222, "k*h=c", "OK: OK 5/MINUTE r=4 t=58"),
            ],
        ),
        case(
            "an underscore forges no other counter",
            &["a 2/minute", "a_b 2/minute"],
            vec![(2222, "a=b_c", "OK: OK 2/MINUTE r=1 t=58"), (2222, "a_b=c", "OK: OK 2/MINUTE r=1 t=58")],
        ),
        case(
            "a limit takes the place of others while it is matched",
            &["a 1/minute name=a", "b 9/minute name=b replaces=a", "u unlimited replaces=b", "c 9/minute"],
            vec![
                (2222, "a=1 | b=1", "OK: OK - | OK b 9/MINUTE r=8 t=58"),
                (2222, "b=1 | a=1", "OK: OK b 9/MINUTE r=7 t=58 | OK -"),
                (2222, "a=1 | c=1", "OK: OK a 1/MINUTE r=0 t=58 | OK 9/MINUTE r=8 t=58"),
                (2222, "a=1 | u=1", "OVER_LIMIT: OVER_LIMIT a 1/MINUTE r=0 t=58 | OK - r=4294967295"),
                (2222, "b=1 | u=1", "OK: OK - | OK - r=4294967295"),
                (2222, "b=1", "OK: OK b 9/MINUTE r=6 t=58"),
            ],
        ),
        case(
            "two that replace each other both vanish",
            &["a 1/minute name=a replaces=b", "b 1/minute name=b replaces=a"],
            vec![(2222, "a=1 | b=1", "OK: OK - | OK -"), (2222, "a=1", "OK: OK a 1/MINUTE r=0 t=58")],
        ),
    ]
}

fn brought() -> Vec<Case> {
    vec![
        case(
            "a limit that a request brings needs no rule, and shares the counter of its unit",
            &["a 10/minute name=n"],
            vec![
                (2222, "x=1 limit=2/minute", "OK: OK 2/MINUTE r=1 t=58"),
                (2222, "x=1 limit=5/minute", "OK: OK 5/MINUTE r=3 t=58"),
                (2222, "x=1 limit=1/minute", "OVER_LIMIT: OVER_LIMIT 1/MINUTE r=0 t=58"),
                (2222, "x=1 limit=9/hour", "OK: OK 9/HOUR r=8 t=1378"),
                (2222, "a=1", "OK: OK n 10/MINUTE r=9 t=58"),
                (2222, "a=1 limit=20/minute", "OK: OK 20/MINUTE r=18 t=58"),
                (2222, "a=1", "OK: OK n 10/MINUTE r=7 t=58"),
                (2222, "- limit=2/minute", "OK: OK 2/MINUTE r=1 t=58"),
            ],
        ),
        case(
            "a multiplier makes the window longer",
            &["a 10/minute"],
            vec![
                (2222, "x=1 limit=2/minute*5", "OK: OK 2/MINUTE*5 r=1 t=178"),
                (2222, "x=1 limit=2/second*300", "OK: OK 2/SECOND*300 r=0 t=178"),
                (2222, "x=1 limit=2/minute*1", "OK: OK 2/MINUTE*1 r=1 t=58"),
                (2222, "x=1 limit=2/minute", "OK: OK 2/MINUTE r=0 t=58"),
                (
                    2222,
                    "x=1 limit=2/year*2",
                    "InvalidArgument: limit.unit_multiplier: descriptors[0]: a window is at least one unit and at most 366 days",
                ),
                (
                    2222,
                    "x=1 limit=2/minute*0",
                    "InvalidArgument: descriptors[0].limit.unit_multiplier: 0 units make no window; send 1 or more",
                ),
            ],
        ),
        case(
            "a unit that is none is refused and named",
            &["a 10/minute"],
            vec![
                (
                    2222,
                    "x=1 limit=2/0",
                    "InvalidArgument: descriptors[0].limit.unit: 0 is not a unit; send SECOND, MINUTE, HOUR, DAY, MONTH or YEAR",
                ),
                (
                    2222,
                    "a=1 | x=1 limit=2/99",
                    "InvalidArgument: descriptors[1].limit.unit: 99 is not a unit; send SECOND, MINUTE, HOUR, DAY, MONTH or YEAR",
                ),
                (2222, "a=1", "OK: OK 10/MINUTE r=9 t=58"),
                (2222, "x=1 limit=2/7", "OK: OK 2/WEEK r=1 t=602578"),
            ],
        ),
        case(
            "a limit that is brought leaves the rule's ways behind",
            &["a 10/minute name=n shadow", "b unlimited"],
            vec![
                (2222, "a=1 limit=0/minute", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=58"),
                (2222, "b=1 limit=1/minute", "OK: OK 1/MINUTE r=0 t=58"),
            ],
        ),
    ]
}

fn peeks() -> Vec<Case> {
    vec![
        case(
            "a peek at exactly the limit is OK, above it over",
            &["t 2/minute"],
            vec![
                (2222, "t=1 hits=0", "OK: OK 2/MINUTE r=2 t=58"),
                (2222, "t=1 hits=2", "OK: OK 2/MINUTE r=0 t=58"),
                (2222, "t=1 hits=0", "OK: OK 2/MINUTE r=0 t=58"),
                (2222, "t=1", "OVER_LIMIT: OVER_LIMIT 2/MINUTE r=0 t=58"),
                (2222, "t=1 hits=0", "OVER_LIMIT: OVER_LIMIT 2/MINUTE r=0 t=58"),
            ],
        ),
        case(
            "a quota of tokens that is debited afterwards lets the one that passes it through",
            &["t 2/minute"],
            vec![
                (2222, "t=1 hits=0", "OK: OK 2/MINUTE r=2 t=58"),
                (2222, "t=1 hits=1", "OK: OK 2/MINUTE r=1 t=58"),
                (2222, "t=1 hits=0", "OK: OK 2/MINUTE r=1 t=58"),
                (2222, "t=1 hits=1", "OK: OK 2/MINUTE r=0 t=58"),
                (2222, "t=1 hits=0", "OK: OK 2/MINUTE r=0 t=58"),
                (2222, "t=1 hits=1", "OVER_LIMIT: OVER_LIMIT 2/MINUTE r=0 t=58"),
                (2222, "t=1 hits=0", "OVER_LIMIT: OVER_LIMIT 2/MINUTE r=0 t=58"),
            ],
        ),
    ]
}

fn stopping() -> Vec<Case> {
    let stop = || RateLimitOptions { over_limit: OverLimit::OnlyItself, ..plain() };
    vec![
        with(
            stop(),
            case(
                "a key that is over keeps the others as they were, and goes on itself",
                &["a 10/minute", "b 0/minute"],
                vec![
                    (2222, "a=1 | b=1", "OVER_LIMIT: OK 10/MINUTE r=10 t=58 | OVER_LIMIT 0/MINUTE r=0 t=58"),
                    (2222, "a=1", "OK: OK 10/MINUTE r=9 t=58"),
                    (2222, "a=1 | b=1", "OVER_LIMIT: OK 10/MINUTE r=9 t=58 | OVER_LIMIT 0/MINUTE r=0 t=58"),
                ],
            ),
        ),
        with(
            RateLimitOptions { over_limit: OverLimit::NothingOnceOver, ..plain() },
            case(
                "with the local cache on, what was over before makes the others a look",
                &["a 1/minute", "b 2/day"],
                vec![
                    (2222, "a=1 | b=1", "OK: OK 1/MINUTE r=0 t=58 | OK 2/DAY r=1 t=84178"),
                    (2222, "a=1 | b=1", "OVER_LIMIT: OVER_LIMIT 1/MINUTE r=0 t=58 | OK 2/DAY r=1 t=84178"),
                    (
                        2222,
                        "a=1 | b=1 hits=5",
                        "OVER_LIMIT: OVER_LIMIT 1/MINUTE r=0 t=58 | OK 2/DAY r=1 t=84178",
                    ),
                    (2222, "b=1", "OK: OK 2/DAY r=0 t=84178"),
                    (
                        2280,
                        "a=1 | b=1 hits=5",
                        "OVER_LIMIT: OK 1/MINUTE r=1 t=60 | OVER_LIMIT 2/DAY r=0 t=84120",
                    ),
                ],
            ),
        ),
        with(
            stop(),
            case(
                "what is over is counted all the same",
                &["a 10/minute"],
                vec![
                    (2222, "a=1 hits=8", "OK: OK 10/MINUTE r=2 t=58"),
                    (2222, "a=1 hits=5", "OVER_LIMIT: OVER_LIMIT 10/MINUTE r=0 t=58"),
                    (2222, "a=1 hits=2", "OVER_LIMIT: OVER_LIMIT 10/MINUTE r=0 t=58"),
                ],
            ),
        ),
    ]
}

fn kinds() -> Vec<Case> {
    let shadow = || RateLimitOptions { shadow: true, ..plain() };
    let quota = || RateLimitOptions { quota: true, ..plain() };
    vec![
        case(
            "a rule in shadow is OK when it is over, and shows its limit",
            &["a 1/minute shadow"],
            vec![(2222, "a=1", "OK: OK 1/MINUTE r=0 t=58"), (2222, "a=1", "OK: OK 1/MINUTE r=0 t=58")],
        ),
        with(
            shadow(),
            case(
                "shadow for all lets the request pass and no more",
                &["a 1/minute"],
                vec![
                    (2222, "a=1", "OK: OK 1/MINUTE r=0 t=58"),
                    (2222, "a=1", "OK: OVER_LIMIT 1/MINUTE r=0 t=58"),
                ],
            ),
        ),
        case(
            "quotas refuse when all of them are over",
            &["q=over 0/minute quota", "q=free 9/minute quota", "p=over 0/minute", "p=free 9/minute"],
            vec![
                (2222, "p=over | q=free", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=58 | OK 9/MINUTE r=8 t=58"),
                (2222, "p=free | q=over", "OVER_LIMIT: OK 9/MINUTE r=8 t=58 | OVER_LIMIT 0/MINUTE r=0 t=58"),
                (2222, "q=over | q=free", "OK: OVER_LIMIT 0/MINUTE r=0 t=58 | OK 9/MINUTE r=7 t=58"),
                (2222, "q=over", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=58"),
                (2222, "q=over | none=1", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=58 | OK -"),
            ],
        ),
        with(
            quota(),
            case(
                "in quota mode a descriptor without a limit is a quota that passed, an unlimited one is none",
                &["a=over 0/minute", "u unlimited"],
                vec![
                    (2222, "a=over | b=1", "OK: OVER_LIMIT 0/MINUTE r=0 t=58 | OK -"),
                    (2222, "a=over | u=1", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=58 | OK - r=4294967295"),
                    (2222, "a=over", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=58"),
                ],
            ),
        ),
        with(
            RateLimitOptions { shadow: true, quota: true, ..plain() },
            case(
                "shadow for all goes before quotas",
                &["a 0/minute"],
                vec![(2222, "a=1", "OK: OVER_LIMIT 0/MINUTE r=0 t=58")],
            ),
        ),
    ]
}

fn quotas_in_shadow() -> Vec<Case> {
    let quota = || RateLimitOptions { quota: true, ..plain() };
    vec![
        with(
            quota(),
            case(
                "in quota mode a rule in shadow is a quota that passed",
                &["path 0/minute shadow", "q 0/minute"],
                vec![
                    (
                        2222,
                        "- limit=5/day | path=1 all=4294967295",
                        "OK: OVER_LIMIT 5/DAY r=0 t=84178 | OK 0/MINUTE r=0 t=58",
                    ),
                    (2222, "q=1 | path=1", "OK: OVER_LIMIT 0/MINUTE r=0 t=58 | OK 0/MINUTE r=0 t=58"),
                    (2222, "path=1", "OK: OK 0/MINUTE r=0 t=58"),
                ],
            ),
        ),
        case(
            "a quota in shadow passed too, and a plain rule in shadow is none",
            &["q 0/minute quota", "qs 0/minute quota shadow", "s 0/minute shadow", "p 0/minute"],
            vec![
                (2222, "q=1 | qs=1", "OK: OVER_LIMIT 0/MINUTE r=0 t=58 | OK 0/MINUTE r=0 t=58"),
                (2222, "q=1 | s=1", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=58 | OK 0/MINUTE r=0 t=58"),
                (2222, "p=1 | qs=1", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=58 | OK 0/MINUTE r=0 t=58"),
            ],
        ),
    ]
}

fn headers() -> Vec<Case> {
    let trio = || RateLimitOptions { headers: Some(TrioNames::default()), ..plain() };
    let names = || TrioNames { limit: "x-l".into(), remaining: "x-r".into(), reset: "x-s".into() };
    let named = RateLimitOptions { headers: Some(names()), ..plain() };
    vec![
        with(
            trio(),
            case(
                "the trio is of the limit with the least left",
                &["a 10/minute", "b 5/hour", "u unlimited"],
                vec![
                    (
                        2222,
                        "a=1",
                        "OK: OK 10/MINUTE r=9 t=58 [RateLimit-Limit: 10] [RateLimit-Remaining: 9] [RateLimit-Reset: 58]",
                    ),
                    (
                        2222,
                        "a=1 | b=1",
                        "OK: OK 10/MINUTE r=8 t=58 | OK 5/HOUR r=4 t=1378 [RateLimit-Limit: 5] [RateLimit-Remaining: 4] [RateLimit-Reset: 1378]",
                    ),
                    (2222, "c=1", "OK: OK -"),
                    (2222, "u=1", "OK: OK - r=4294967295"),
                ],
            ),
        ),
        with(
            trio(),
            case(
                "the last plain limit that is over gives the trio",
                &["a 0/minute", "b 0/hour", "c 1/day quota"],
                vec![(
                    2222,
                    "a=1 | b=1 | c=1",
                    "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=58 | OVER_LIMIT 0/HOUR r=0 t=1378 | OK 1/DAY r=0 t=84178 [RateLimit-Limit: 0] [RateLimit-Remaining: 0] [RateLimit-Reset: 1378]",
                )],
            ),
        ),
        with(
            trio(),
            case(
                "of two with the same left the first gives the trio, also one in shadow",
                &["a 0/minute shadow", "b 1/hour"],
                vec![(
                    2222,
                    "a=1 | b=1",
                    "OK: OK 0/MINUTE r=0 t=58 | OK 1/HOUR r=0 t=1378 [RateLimit-Limit: 0] [RateLimit-Remaining: 0] [RateLimit-Reset: 58]",
                )],
            ),
        ),
        with(
            named,
            case(
                "the trio has the names that are set",
                &["a 1/minute"],
                vec![(2222, "a=1", "OK: OK 1/MINUTE r=0 t=58 [x-l: 1] [x-r: 0] [x-s: 58]")],
            ),
        ),
    ]
}

fn metadata() -> Vec<Case> {
    let on = || RateLimitOptions { metadata: true, ..plain() };
    vec![
        with(
            on(),
            case(
                "metadata says what was asked and carries that of limits that passed",
                &[
                    r#"a 1/minute meta={"tier":"a","deep":{"x":1}}"#,
                    r#"b 9/minute meta={"tier":"b","deep":{"x":2,"y":3}}"#,
                ],
                vec![
                    (
                        2222,
                        "a=1 | b=2 hits=0 all=2",
                        r#"OVER_LIMIT: OVER_LIMIT 1/MINUTE r=0 t=58 | OK 9/MINUTE r=9 t=58 {"descriptors":[{"entries":["a=1"]},{"entries":["b=2"],"hitsAddend":0.0}],"domain":"D","hitsAddend":2.0,"metadata":{"deep":{"x":2.0,"y":3.0},"tier":"b"}}"#,
                    ),
                    (
                        2280,
                        "a=1 | b=2",
                        r#"OK: OK 1/MINUTE r=0 t=60 | OK 9/MINUTE r=8 t=60 {"descriptors":[{"entries":["a=1"]},{"entries":["b=2"]}],"domain":"D","metadata":{"deep":{"x":1.0,"y":3.0},"tier":"a"}}"#,
                    ),
                    (
                        2280,
                        "b=2",
                        r#"OK: OK 9/MINUTE r=7 t=60 {"descriptors":[{"entries":["b=2"]}],"domain":"D","metadata":{"deep":{"x":2.0,"y":3.0},"tier":"b"}}"#,
                    ),
                ],
            ),
        ),
        with(
            on(),
            case(
                "a limit that is brought stands in the metadata as text",
                &[r#"a 1/minute meta={"tier":"a"}"#],
                vec![(
                    2222,
                    "a=1 limit=5/minute",
                    r#"OK: OK 5/MINUTE r=4 t=58 {"descriptors":[{"entries":["a=1"],"limit":"requests_per_unit:5 unit:MINUTE"}],"domain":"D"}"#,
                )],
            ),
        ),
    ]
}

fn native() -> Vec<Case> {
    vec![
        case(
            "limits that count what passes are charged together or not at all",
            &["a 3/minute sliding", "b 1/minute sliding"],
            vec![
                (2222, "a=1 | b=1", "OK: OK 3/MINUTE r=2 t=60 | OK 1/MINUTE r=0 t=60"),
                (2230, "a=1 | b=1", "OVER_LIMIT: OK 3/MINUTE r=2 t=52 | OVER_LIMIT 1/MINUTE r=0 t=52"),
                (2230, "a=1", "OK: OK 3/MINUTE r=1 t=60"),
                (2282, "a=1 | b=1", "OK: OK 3/MINUTE r=1 t=60 | OK 1/MINUTE r=0 t=60"),
            ],
        ),
        case(
            "a peek at such a limit says whether one hit would pass",
            &["a 1/minute sliding"],
            vec![
                (2222, "a=1 hits=0", "OK: OK 1/MINUTE r=1 t=0"),
                (2222, "a=1", "OK: OK 1/MINUTE r=0 t=60"),
                (2222, "a=1 hits=0", "OVER_LIMIT: OVER_LIMIT 1/MINUTE r=0 t=60"),
            ],
        ),
        case(
            "a bucket's wait is exact",
            &["a 6/minute bucket"],
            vec![
                (2222, "a=1 hits=6", "OK: OK 6/MINUTE r=0 t=60"),
                (2223, "a=1", "OVER_LIMIT: OVER_LIMIT 6/MINUTE r=0 t=9"),
                (2232, "a=1", "OK: OK 6/MINUTE r=0 t=60"),
            ],
        ),
        case(
            "a calendar window counts what passes and takes hits back",
            &["a 2/minute calendar", "b 2/minute sliding"],
            vec![
                (2222, "a=1 hits=2", "OK: OK 2/MINUTE r=0 t=58"),
                (2222, "a=1", "OVER_LIMIT: OVER_LIMIT 2/MINUTE r=0 t=58"),
                (2222, "a=1 back", "OK: OK 2/MINUTE r=1 t=58"),
                (
                    2222,
                    "b=1 back",
                    "InvalidArgument: is_negative_hits: descriptors[0]: its limit counts by an algorithm that takes nothing back",
                ),
            ],
        ),
        case(
            "a ban is one under every way of counting",
            &["a 0/minute sliding", "b 0/minute bucket", "c 0/minute calendar", "d 5/minute sliding"],
            vec![
                (2222, "a=1 | d=1", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=0 | OK 5/MINUTE r=5 t=0"),
                (2222, "b=1", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=0"),
                (2222, "c=1", "OVER_LIMIT: OVER_LIMIT 0/MINUTE r=0 t=0"),
            ],
        ),
    ]
}
