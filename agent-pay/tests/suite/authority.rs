//! The laws of the spend authority, each with the bugs that it is there to find.
//!
//! `holds` runs them against the authority as it is; `finds` against one with a bug, where the law
//! must fail.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cognitive_complexity,
    reason = "a law fails by panicking"
)]

mod approvals;
mod deciding;
mod life;
mod windows;

use crate::common::planted::Bug;
use crate::finds::is_found;

macro_rules! laws {
    ($($module:ident::$law:ident: $($bug:ident),+;)+) => {
        mod holds {
            $(
                #[tokio::test]
                async fn $law() {
                    super::$module::$law(None).await;
                }
            )+
        }

        mod finds {
            use super::*;

            $(
                #[test]
                fn $law() {
                    for bug in [$(Bug::$bug),+] {
                        assert!(is_found(Some(bug), super::$module::$law), "{bug:?} is not found");
                    }
                }
            )+
        }
    };
}

laws! {
    deciding::one_agent_spends_alone_up_to_its_line_and_another_always_asks: ForgetsThresholds;
    deciding::every_level_counts_and_the_one_that_is_short_is_named: LimitsTheRootOnly, ChargesParents;
    deciding::what_is_unknown_is_asked_or_denied: BelievesPrices, BelievesNames;
    deciding::lists_narrow_on_every_level: IgnoresLists;
    deciding::first_payment_to_a_payee_is_asked_or_denied_until_it_is_known: KnowsEveryPayee;
    deciding::revoked_nodes_and_the_kill_switch_stop_at_once_and_reversibly: ForgetsRevocations, ForgetsHalts;
    deciding::delegated_nodes_only_narrow: DelegatesAnything;
    deciding::budget_that_was_opened_without_a_policy_limits_too: ChargesParents;
    deciding::policy_errors_name_line_key_and_remedy: ForgetsLines;
    life::stream_tops_up_under_the_same_rules_and_releases_the_rest: CountsTopUpsAgain, ForgetsThresholds;
    life::refunds_never_exceed_what_was_captured: RefundsAgain, ClampsRefunds;
    life::expired_hold_is_free_and_a_submitted_one_never_expires: NeverExpires, ForgetsSubmissions;
    life::same_key_and_body_is_replayed_and_another_body_is_a_conflict: ForgetsKeys, LooksAtKeysOnly;
    life::operation_keys_come_from_the_step_and_not_from_chance: IgnoresSteps;
    life::answers_are_given_again_as_the_commerce_protocol_asks: KeepsErrors, LooksAtKeysOnly;
    windows::calendar_day_begins_at_midnight_of_its_place: CountsInUtc;
    windows::periods_begin_where_the_calendar_says: CountsInUtc;
    windows::rolling_limit_counts_each_spend_for_exactly_its_span: FixesWindows;
    windows::hold_counts_in_its_rolling_window_as_long_as_it_is_held: ExpiresEarly;
    windows::velocity_counts_what_is_held_or_captured: IgnoresCounts, KeepsReleased;
    windows::changed_limit_counts_from_then_on: KeepsFirstPolicies;
    windows::limits_read_back_as_written: CountsInUtc, FixesWindows;
    approvals::quorum_of_different_people_approves_one_spend_once: OneIsEnough, ForgetsThresholds;
    approvals::approval_holds_for_every_part_of_the_intent_and_nothing_else: LooksAtKeysOnly;
    approvals::nobody_approves_their_own_spend_or_their_parents: LetsAnybodyVote;
    approvals::one_refusal_denies_whatever_others_said: ApprovesRefusals;
    approvals::approval_that_ran_out_is_void_and_its_votes_too: ApprovalsLast;
    approvals::requests_votes_and_grants_survive_a_restart: ForgetsRequests;
    approvals::question_nobody_can_answer_is_a_denial: AsksStrangers;
}
