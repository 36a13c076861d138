//! The laws of a journal, for whoever writes a backend. Unstable: may change in any release.
//!
//! Each law gets a fresh journal and the clock it reads. `journal_conformance!(make)` runs them
//! all.

mod audit;
mod clock;
mod control;
mod doubt;
mod drift;
mod history;
mod queue;
mod recovery;
mod registry;
mod requests;
mod steps;
mod subject;
mod tasks;
mod trees;
mod waits;

pub use audit::{
    a_root_of_another_chain_is_refused, a_signed_root_stands_for_what_is_before_it,
    erasing_leaves_the_chain_whole, records_name_what_they_belong_to,
};
pub use clock::{
    a_dead_letter_asks_a_person, a_manifest_replaces_its_own_schedules,
    a_message_comes_until_it_is_acknowledged, a_message_is_written_with_its_step,
    a_schedule_fires_once_for_each_moment, an_overlapping_firing_is_left_out,
    messages_of_a_key_come_in_order, missed_firings_are_made_up_for_as_said,
};
pub use control::{
    a_canceled_tree_can_do_nothing, a_paused_task_hears_its_answer_when_it_goes_on,
    a_paused_tree_stands_still, a_run_is_controlled_as_a_whole,
};
pub use doubt::{
    a_crash_leaves_opaque_steps_in_doubt, a_lost_answer_is_in_doubt,
    a_recorded_step_returns_its_value,
};
pub use drift::{
    a_drifted_step_is_migrated_once_it_is_done, a_fork_at_a_drifted_step_does_the_rest_anew,
    no_fork_passes_over_a_step_in_doubt,
};
pub use history::{
    a_fork_acts_nothing_again, a_fork_knows_nothing_of_later, everything_ends,
    records_fold_to_what_is,
};
pub use queue::{
    a_reached_limit_is_passed_over, an_idle_key_gets_no_credit, nobody_starves,
    the_order_within_a_key_is_kept, the_queues_count_what_can_be_claimed,
    turns_are_taken_by_weight, what_is_due_next_is_known,
};
pub use recovery::{
    a_failed_repeat_leaves_a_step_in_doubt, a_task_undoes_its_steps_before_it_ends,
    only_a_ladder_runs_what_waits_for_its_word, what_was_fallen_back_on_is_kept,
};
pub use registry::{
    a_retired_agent_claims_nothing, a_run_goes_on_under_another_configuration,
    leases_are_counted_by_pool, the_registry_follows_what_agents_do,
};
pub use requests::{a_deadline_applies_the_default, an_answer_wakes_a_parked_task};
pub use steps::{a_late_pure_outcome_is_refused, a_pure_step_is_recorded_by_its_outcome};
pub use subject::Subject;
pub use tasks::{
    a_correction_begins_a_new_round, a_retry_waits_for_its_time, a_run_is_resumed_until_it_ends,
    an_author_never_verifies_its_own_work, an_old_fence_can_do_nothing, counts_and_chain_hold,
    one_claimer_gets_the_task, submitting_again_changes_nothing,
    urgent_then_old_tasks_are_claimed_first,
};
pub use trees::{
    a_child_is_added_once_by_its_step, a_parent_waits_for_its_children,
    a_tree_has_a_depth_and_a_width, a_tree_is_retried_as_often_as_it_may,
    an_old_fence_delegates_nothing, children_end_with_their_parent, overdue_tasks_fail,
    tasks_without_a_pool_are_escalated_and_fail,
};
pub use waits::{
    a_timer_fires_once_at_its_moment, a_wait_keeps_its_moment, an_awakeable_is_answered_once,
    an_awakeable_times_out, awakeables_are_never_mixed_up, no_wake_up_is_lost_before_parking,
    signals_are_kept_in_order, the_first_of_several_ends_a_wait, waits_end_with_their_round,
    wrong_signals_are_refused,
};

use subject::{agent, check, effect, failure, is_conflict};

/// Runs every law on fresh journals that `make` returns: `async fn() -> (Subject, Guard)`.
#[macro_export]
macro_rules! journal_conformance {
    ($make:path) => {
        $crate::journal_conformance!(@laws $make:
            submitting_again_changes_nothing,
            one_claimer_gets_the_task,
            urgent_then_old_tasks_are_claimed_first,
            an_old_fence_can_do_nothing,
            an_author_never_verifies_its_own_work,
            a_recorded_step_returns_its_value,
            a_crash_leaves_opaque_steps_in_doubt,
            a_lost_answer_is_in_doubt,
            an_answer_wakes_a_parked_task,
            a_deadline_applies_the_default,
            a_correction_begins_a_new_round,
            a_retry_waits_for_its_time,
            a_run_is_resumed_until_it_ends,
            counts_and_chain_hold,
            a_failed_repeat_leaves_a_step_in_doubt,
            a_task_undoes_its_steps_before_it_ends,
            only_a_ladder_runs_what_waits_for_its_word,
            what_was_fallen_back_on_is_kept,
            a_pure_step_is_recorded_by_its_outcome,
            a_late_pure_outcome_is_refused,
            a_timer_fires_once_at_its_moment,
            a_wait_keeps_its_moment,
            signals_are_kept_in_order,
            no_wake_up_is_lost_before_parking,
            wrong_signals_are_refused,
            awakeables_are_never_mixed_up,
            an_awakeable_is_answered_once,
            an_awakeable_times_out,
            the_first_of_several_ends_a_wait,
            waits_end_with_their_round,
            turns_are_taken_by_weight,
            an_idle_key_gets_no_credit,
            the_order_within_a_key_is_kept,
            nobody_starves,
            a_reached_limit_is_passed_over,
            the_queues_count_what_can_be_claimed,
            what_is_due_next_is_known,
            a_child_is_added_once_by_its_step,
            an_old_fence_delegates_nothing,
            a_tree_has_a_depth_and_a_width,
            a_parent_waits_for_its_children,
            children_end_with_their_parent,
            a_paused_tree_stands_still,
            a_paused_task_hears_its_answer_when_it_goes_on,
            a_canceled_tree_can_do_nothing,
            a_run_is_controlled_as_a_whole,
            a_tree_is_retried_as_often_as_it_may,
            overdue_tasks_fail,
            tasks_without_a_pool_are_escalated_and_fail,
            records_fold_to_what_is,
            everything_ends,
            a_fork_acts_nothing_again,
            a_fork_knows_nothing_of_later,
            a_drifted_step_is_migrated_once_it_is_done,
            a_fork_at_a_drifted_step_does_the_rest_anew,
            no_fork_passes_over_a_step_in_doubt,
            a_schedule_fires_once_for_each_moment,
            missed_firings_are_made_up_for_as_said,
            an_overlapping_firing_is_left_out,
            a_manifest_replaces_its_own_schedules,
            a_message_comes_until_it_is_acknowledged,
            a_message_is_written_with_its_step,
            messages_of_a_key_come_in_order,
            a_dead_letter_asks_a_person,
            a_signed_root_stands_for_what_is_before_it,
            a_root_of_another_chain_is_refused,
            erasing_leaves_the_chain_whole,
            records_name_what_they_belong_to,
            the_registry_follows_what_agents_do,
            a_retired_agent_claims_nothing,
            leases_are_counted_by_pool,
            a_run_goes_on_under_another_configuration,
        );
    };
    (@laws $make:path: $($law:ident,)+) => {
        $(
            #[tokio::test]
            async fn $law() {
                let (subject, _guard) = $make().await;
                if let Err(broken) = $crate::conformance::$law(subject).await {
                    panic!("{broken}");
                }
            }
        )+
    };
}
