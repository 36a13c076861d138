//! The laws every key store and every grant store keeps. Unstable: laws are added in any release.
//!
//! A backend runs them with [`key_store_conformance!`](crate::key_store_conformance) and
//! [`grant_store_conformance!`](crate::grant_store_conformance), each given an async function that
//! makes an empty store and whatever must live as long as it.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a broken law fails the test that runs it"
)]

pub mod grants;
pub mod keys;

/// Runs every law of [`KeyStore`](crate::KeyStore) as a test.
#[macro_export]
macro_rules! key_store_conformance {
    ($make:path) => {
        $crate::key_store_conformance!(@laws $make:
            one_name_gives_one_key,
            a_batch_keeps_its_order_and_repeats,
            signatures_verify_for_their_purpose_alone,
            tenants_do_not_see_one_another,
            a_rotated_key_verifies_and_signs_nothing,
            of_two_rotations_one_wins,
            a_removed_name_is_another_identity,
            pages_cover_every_name_once,
            unknown_keys_are_not_found,
            bounds_are_kept,
            no_secret_is_shown,
        );
    };
    (@laws $make:path: $($law:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $law() {
            let (store, _guard) = $make().await;
            $crate::conformance::keys::$law(store).await;
        }
    )+};
}

/// Runs every law of [`GrantStore`](crate::GrantStore) as a test.
#[macro_export]
macro_rules! grant_store_conformance {
    ($make:path) => {
        $crate::grant_store_conformance!(@laws $make:
            a_revocation_is_in_force_at_once_and_listed,
            revoking_again_changes_nothing,
            a_charge_counts_once_per_key,
            a_key_belongs_to_one_effect,
            a_full_limit_refuses_and_counts_nothing,
            spend_is_counted_to_the_last_unit,
            the_first_way_with_room_is_taken,
            racing_charges_never_exceed_a_limit,
            trying_counts_nothing,
            pruning_forgets_what_has_ended,
            bounds_are_kept,
        );
    };
    (@laws $make:path: $($law:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $law() {
            let (store, _guard) = $make().await;
            $crate::conformance::grants::$law(store).await;
        }
    )+};
}
