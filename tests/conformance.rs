//! Every store through one suite: the same cases, and the same random sequences against a plain model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says its seed")]

#[path = "conformance/bed.rs"]
mod bed;
#[path = "conformance/build.rs"]
mod build;
#[path = "conformance/cases.rs"]
mod cases;
#[path = "conformance/cost.rs"]
mod cost;
#[path = "conformance/differential.rs"]
mod differential;
#[path = "conformance/failure.rs"]
mod failure;
#[path = "conformance/model.rs"]
mod model;
#[path = "conformance/random.rs"]
mod random;
#[path = "support/redis.rs"]
mod redis;
#[path = "conformance/requests.rs"]
mod requests;
#[path = "conformance/settling.rs"]
mod settling;

use bed::{MemoryBed, RedisBed};
use redis::Kind;

/// Runs every case on a bed; one line a store.
macro_rules! suite {
    ($store:ident, $bed:expr) => {
        suite!($store, $bed,
            denies_the_eleventh_check_in_a_minute_and_says_when_to_come_back,
            all_limits_are_charged_or_none,
            a_peek_charges_nothing,
            what_counts_counts_also_above_the_limit_and_refuses_nobody_else,
            what_counts_and_refuses_is_counted_itself_and_keeps_others_as_they_were,
            what_was_over_before_keeps_its_ask_from_being_charged_where_that_is_asked,
            a_refund_goes_down_to_nothing_and_makes_no_counter,
            a_shadow_policy_counts_while_it_fits_and_never_refuses,
            a_cost_above_the_limit_never_passes_and_has_no_retry,
            a_clock_that_jumps_back_hands_nothing_out_twice_and_the_wait_ends,
            a_clock_that_goes_back_a_little_changes_nothing,
            a_peek_after_a_jump_changes_nothing,
            a_repeated_request_gets_its_first_answer_and_is_charged_once,
            an_answer_is_kept_for_the_shorter_of_its_window_and_ten_minutes,
            an_answer_is_kept_for_the_longest_window_and_a_lease_for_its_life,
            a_denial_is_kept_no_longer_than_its_retry_at_and_without_one_not_at_all,
            an_ask_without_room_for_its_answer_is_charged_each_time,
            one_id_for_the_whole_limit_passes_as_often_as_it_is_repeated,
            a_repeated_request_gets_its_first_answer_even_after_an_edit,
            the_same_demands_in_another_order_are_the_same_request,
            what_was_too_much_comes_back_at_once_under_every_policy,
            what_was_too_little_is_charged_without_a_question_and_delays_the_next,
            a_debt_of_many_bursts_is_paid_in_full,
            the_first_settlement_holds_whatever_the_next_ones_say,
            after_its_time_a_reservation_stays_charged,
            what_counts_no_more_is_not_given_back,
            settled_by_many_at_once_on_several_stores_it_is_settled_once,
            leases_are_held_renewed_released_and_end_by_themselves,
            a_full_shadow_limit_never_costs_a_lease,
            after_a_limit_was_lowered_the_wait_is_long_enough,
            a_lease_that_is_lost_under_one_limit_is_given_back_under_all,
            thousands_of_leases_are_renewed_in_order,
            a_revoked_token_is_refused_and_nothing_is_charged,
            a_revocation_is_kept_until_its_end_however_far,
            a_revocation_that_is_over_stays_so_when_the_clock_jumps_back,
            revoked_wins_over_a_repeated_request,
            a_token_alone_is_asked_about_without_demands,
            a_lease_ends_with_its_token,
            editing_a_limit_keeps_its_counter,
            many_at_once_on_several_stores_admit_exactly_the_limit,
        );
    };
    ($store:ident, $bed:expr, $($case:ident,)*) => {
        mod $store {
            use super::*;
            $(
                #[tokio::test]
                async fn $case() {
                    cases::$case($bed).await;
                }
            )*

            #[tokio::test]
            async fn does_what_the_model_does() {
                differential::run(stringify!($store), $bed).await;
            }
        }
    };
}

suite!(memory, MemoryBed::new());
suite!(redis_7, RedisBed::new(Kind::Redis7));
suite!(redis_8, RedisBed::new(Kind::Redis8));
suite!(valkey_8, RedisBed::new(Kind::Valkey8));
