//! The source mutants: wrong orders and left-out checks below the seams, where no wrapper of the simulator reaches. Each
//! is one text of one file put in the place of another, and the narrowest test that has to fail then.
//!
//! The text has to stand in its file exactly once: a mutant that does not fit its file any more is an error, and so is one
//! that does not compile. Mutants of one crate stand together, so that what they share is built once.

/// One of them.
pub struct Source {
    /// A few words, which name it.
    pub name: &'static str,
    /// Where, from the workspace's folder.
    pub file: &'static str,
    /// What stands there.
    pub from: &'static str,
    /// What is put in its place.
    pub to: &'static str,
    /// Which test has to fail.
    pub test: Test,
}

/// A test, as cargo finds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// The package.
    pub package: &'static str,
    /// The file in `tests/`, or nothing for the library's own.
    pub target: &'static str,
    /// Its whole name.
    pub name: &'static str,
}

const fn core(target: &'static str, name: &'static str) -> Test {
    Test { package: "mainstay-core", target, name }
}

const fn sim(name: &'static str) -> Test {
    Test { package: "mainstay-sim", target: "driver", name }
}

const fn glue(name: &'static str) -> Test {
    Test { package: "mainstay-bootloader-glue", target: "", name }
}

const fn daemon(name: &'static str) -> Test {
    Test { package: "mainstay", target: "", name }
}

/// All of them.
#[rustfmt::skip]
pub const SOURCES: &[Source] = &[
    // Core: state
    Source {
        name: "writes over the copy in force",
        file: "agent/core/src/copies.rs",
        from: "Pair { in_force, next_copy, next_seq: seq.map_or",
        to:   "Pair { in_force, next_copy: 1 - next_copy, next_seq: seq.map_or",
        test: core("", "copies::tests::the_higher_whole_copy_counts_and_the_other_is_written_next"),
    },
    Source {
        name: "a copy's checksum is not looked at",
        file: "agent/core/src/copies.rs",
        from: "which == number(file) && *sum == checksum(signed, payload)",
        to:   "which == number(file) && *sum != [0; 8]",
        test: core("", "copies::tests::a_copy_with_any_bit_of_it_flipped_or_any_tail_of_it_lost_is_torn"),
    },
    // Core: the ends of a service
    Source {
        name: "a reset forgets the sequence numbers",
        file: "agent/core/src/update/step.rs",
        from: "            next.failed.clear();",
        to:   "            next.failed.clear();\n            next.desired_seq = [0, 0];",
        test: core("machine", "table::a_reset_forgets_what_was_said_by_hand_and_what_failed_and_nothing_that_guards_against_a_replay"),
    },
    Source {
        name: "the end of service leads back into it",
        file: "agent/core/src/update/step.rs",
        from: "            Service::Decommissioning(since) => Service::Decommissioned(since),",
        to:   "            Service::Decommissioning(_) => Service::In,",
        test: core("machine", "table::a_reset_leads_back_into_service_and_nothing_leads_back_from_the_end_of_it"),
    },
    Source {
        name: "a reset that was begun is not gone on with",
        file: "agent/core/src/update/recover.rs",
        from: "if record.service == Service::Resetting => Step::act(Action::Erase),",
        to:   "if record.service == Service::Resetting => Step::act(Action::Rest),",
        test: core("machine", "recovery::a_reset_and_the_end_of_service_begin_again_at_the_next_start_and_a_late_fallback_is_told_first"),
    },
    // Core: trial
    Source {
        name: "a wanted check counts as required",
        file: "agent/core/src/trial/machine.rs",
        from: "self.checks.iter().filter(|check| check.plan().required)",
        to:   "self.checks.iter().filter(|_| true)",
        test: core("", "trial::tests::with_only_wanted_checks_failing_it_is_healthy"),
    },
    Source {
        name: "one required check that passes is enough",
        file: "agent/core/src/trial/machine.rs",
        from: "if self.required().all(Check::has_passed)",
        to:   "if self.required().any(Check::has_passed)",
        test: core("", "trial::tests::a_required_check_that_never_passes_is_never_healthy"),
    },
    Source {
        name: "a pass after the deadline counts",
        file: "agent/core/src/trial/machine.rs",
        from: "let counts = now_ms < self.deadline_ms && self.verdict.is_none();",
        to:   "let counts = now_ms < u64::MAX && self.verdict.is_none();",
        test: core("", "trial::tests::a_pass_that_comes_after_the_deadline_does_not_count"),
    },
    // Core: machine
    Source {
        name: "a commit does not raise the floor",
        file: "agent/core/src/update/step.rs",
        from: "next.floor = next.floor.max(d.security_version);",
        to:   "next.floor = next.floor.max(0);",
        test: core("machine", "table::the_commit_and_the_floor_stand_in_one_record_and_nothing_else_raises_the_floor"),
    },
    Source {
        name: "the floor follows a lower security version down",
        file: "agent/core/src/update/step.rs",
        from: "next.floor = next.floor.max(d.security_version);",
        to:   "next.floor = d.security_version;",
        test: core("machine", "table::a_commit_of_a_lower_security_version_leaves_the_floor"),
    },
    Source {
        name: "the target is marked good after the commit is on record",
        file: "agent/core/src/update/step.rs",
        from: "(Phase::Trial(d), RunTrial, Event::Healthy) => next(Phase::Committing(d), MarkGood),",
        to:   "(Phase::Trial(d), RunTrial, Event::Healthy) => Some(Step::committed(record, d)),",
        test: core("machine", "table::every_row_leads_where_the_table_says_and_everything_else_changes_nothing"),
    },
    Source {
        name: "a failed trial is not remembered",
        file: "agent/core/src/update/step.rs",
        from: "if matches!(outcome.kind, OutcomeKind::RolledBack | OutcomeKind::FellBack) {",
        to:   "if matches!(outcome.kind, OutcomeKind::RolledBack) {",
        test: core("machine", "table::whatever_settles_is_queued_for_the_operator_and_failed_trials_are_remembered"),
    },
    Source {
        name: "recovery takes a cut commit for done, whatever the bootloader says",
        file: "agent/core/src/update/recover.rs",
        from: "match boot.is_some_and(|boot| boot.group(running).good == Some(true)) {",
        to:   "match boot.is_some() {",
        test: core("machine", "recovery::the_boot_facts_decide_where_the_journal_cannot"),
    },
    Source {
        name: "recovery arms again what was tried and fell back",
        file: "agent/core/src/update/recover.rs",
        from: "} else if target.priority > 0 && target.tries_left == 0 {",
        to:   "} else if target.priority > 9 && target.tries_left == 0 {",
        test: core("machine", "recovery::the_boot_facts_decide_where_the_journal_cannot"),
    },
    Source {
        name: "reboots into a trial have no bound",
        file: "agent/core/src/update/recover.rs",
        from: "} else if record.trial_reboots > d.tries {",
        to:   "} else if record.trial_reboots == u8::MAX {",
        test: core("machine", "recovery::reboots_into_a_trial_that_never_comes_up_are_bounded"),
    },
    Source {
        name: "reboots on the way back have no bound",
        file: "agent/core/src/update/recover.rs",
        from: "if d.target == running && record.trial_reboots >= TRIES_MAX =>",
        to:   "if d.target == running && record.trial_reboots > u8::MAX - 1 && TRIES_MAX > 0 =>",
        test: core("machine", "recovery::reboots_on_the_way_back_are_bounded_and_then_it_stays_and_says_so"),
    },
    // Core: installer
    Source {
        name: "a segment is written unproven",
        file: "agent/core/src/bundle/page.rs",
        from: "proof.holds(bytes).then_some(VerifiedSegment { at, bytes })",
        to:   "(*proof != Proof::Zeros || bytes.len() < usize::MAX).then_some(VerifiedSegment { at, bytes })",
        test: core("install", "pages_that_lie_are_refused_and_no_unproven_byte_is_written"),
    },
    Source {
        name: "a slot's last sync is left out",
        file: "agent/core/src/update/install/mod.rs",
        from: "        self.slots.sync(self.target, class)\n    }",
        to:   "        Ok(())\n    }",
        test: core("install", "whatever_the_window_all_is_written_and_synced_and_nothing_is_announced_in_vain"),
    },
    Source {
        name: "a source that lies is asked again for ever",
        file: "agent/core/src/update/install/mod.rs",
        from: "for _ in 0..FETCHES_MAX {",
        to:   "for _ in 0..FETCHES_MAX * 1000 {",
        test: core("install", "a_source_that_lies_is_asked_again_and_not_for_ever"),
    },
    // Core: trust and policy
    Source {
        name: "a key of small order is taken",
        file: "agent/core/src/trust/root.rs",
        from: ".is_ok_and(|point| !point.is_weak() && point.to_edwards()",
        to:   ".is_ok_and(|point| point.to_edwards()",
        test: core("bundle", "rotation::a_root_that_nobody_should_go_by_is_refused_with_the_reason"),
    },
    Source {
        name: "one signature is enough",
        file: "agent/core/src/trust/root.rs",
        from: "if members.threshold == 0 || valid < members.threshold {",
        to:   "if members.threshold == 0 || valid < 1 {",
        test: core("bundle", "envelope::a_threshold_counts_different_members_of_the_role"),
    },
    Source {
        name: "a key that signs twice counts twice",
        file: "agent/core/src/trust/envelope.rs",
        from: "is_sorted_by(|a, b| a < b)",
        to:   "is_sorted_by(|a, b| a <= b)",
        test: core("bundle", "envelope::signatures_out_of_order_or_twice_are_refused"),
    },
    Source {
        name: "any key of the root signs for any role",
        file: "agent/core/src/trust/root.rs",
        from: ".filter(|(i, _)| members.members >> i & 1 == 1)",
        to:   ".filter(|(i, _)| members.members >> i <= u16::MAX)",
        test: core("bundle", "envelope::a_threshold_counts_different_members_of_the_role"),
    },
    Source {
        name: "a new root need not be signed by its own keys",
        file: "agent/core/src/trust/root.rs",
        from: "next.prove(Role::Root, MessageKind::TrustRoot, &envelope)?;",
        to:   "",
        test: core("bundle", "rotation::a_rotation_needs_a_threshold_of_the_old_root_and_of_the_new_one"),
    },
    Source {
        name: "a root of an earlier version is taken again",
        file: "agent/core/src/trust/root.rs",
        from: "if u64::from(next.version) != expected {",
        to:   "if u64::from(next.version) > expected {",
        test: core("bundle", "rotation::a_root_follows_only_the_version_before_it_and_only_in_its_own_fleet"),
    },
    Source {
        name: "a desired state of a lower sequence is taken",
        file: "agent/core/src/policy/desired.rs",
        from: "if desired.seq < seq {",
        to:   "if desired.seq < seq && seq == u64::MAX {",
        test: core("bundle", "desired::what_is_not_meant_for_this_gateway_now_is_refused"),
    },
    Source {
        name: "a desired state that has expired is taken",
        file: "agent/core/src/policy/desired.rs",
        from: "&& now > expires",
        to:   "&& now > expires.max(u64::MAX)",
        test: core("bundle", "desired::what_is_not_meant_for_this_gateway_now_is_refused"),
    },
    Source {
        name: "a bundle for other hardware is taken",
        file: "agent/core/src/policy/eligibility.rs",
        from: "if manifest.compatible != compatible {",
        to:   "if manifest.compatible != compatible && compatible.is_empty() {",
        test: core("bundle", "eligibility::each_refusal_says_what_was_expected_and_what_was_found"),
    },
    Source {
        name: "a bundle below the floor is taken",
        file: "agent/core/src/policy/eligibility.rs",
        from: "if manifest.security_version < record.floor {",
        to:   "if manifest.security_version < record.floor.min(1) {",
        test: core("bundle", "eligibility::each_refusal_says_what_was_expected_and_what_was_found"),
    },
    Source {
        name: "a clock that fell back makes a bundle young again",
        file: "agent/core/src/policy/eligibility.rs",
        from: "unix_s.unwrap_or(0).max(record.time_floor)",
        to:   "unix_s.unwrap_or(0)",
        test: core("bundle", "eligibility::each_refusal_says_what_was_expected_and_what_was_found"),
    },
    Source {
        name: "a check that the bundle requires need not be there",
        file: "agent/core/src/policy/eligibility.rs",
        from: "if !checks.contains(check) {",
        to:   "if !checks.contains(check) && check.is_empty() {",
        test: core("bundle", "eligibility::each_refusal_says_what_was_expected_and_what_was_found"),
    },
    // Core: driver, in the simulator
    Source {
        name: "the driver acts before it persists",
        file: "agent/core/src/update/driver.rs",
        from: "        if let Some(record) = step.record {\n            self.persist(record, parts)?;\n        }\n",
        to:   "        self.action = step.action;\n        if let Some(record) = step.record {\n            self.persist(record, parts)?;\n        }\n",
        test: sim("a_good_update_goes_on_from_every_effect_that_fails"),
    },
    Source {
        name: "the only way up is given up",
        file: "agent/core/src/update/driver.rs",
        from: "if target == running && !parts.boot.state()?.leaves_a_way_up(target.other()) {",
        to:   "if target != running && !parts.boot.state()?.leaves_a_way_up(target.other()) {",
        test: sim("a_group_that_is_the_only_way_up_is_not_given_up"),
    },
    // Bootloader's environment
    Source {
        name: "U-Boot's copy in force is written first",
        file: "bootloader-glue/src/format.rs",
        from: "vec![whole(1 - old, uboot::encode(vars, Some(flags), bytes)?)]",
        to:   "vec![whole(old, uboot::encode(vars, Some(flags), bytes)?)]",
        test: glue("control::tests::a_trial_is_armed_in_one_write_to_the_copy_not_in_use_and_again_in_none"),
    },
    Source {
        name: "U-Boot's flags do not come round from 255 to 0",
        file: "bootloader-glue/src/uboot/pair.rs",
        from: "(255, 0) => true,",
        to:   "(255, 0) => false,",
        test: glue("uboot::pair::tests::the_copy_in_force_is_the_one_that_u_boot_takes"),
    },
    Source {
        name: "a GRUB block that is too long is cut to its size",
        file: "bootloader-glue/src/grub/mod.rs",
        from: "if bytes.len() > BLOCK_BYTES {",
        to:   "if bytes.len() > 2 * BLOCK_BYTES {",
        test: glue("grub::tests::a_block_may_be_full_to_the_last_byte_and_no_further"),
    },
    Source {
        name: "variables of other people are dropped",
        file: "bootloader-glue/src/grub/mod.rs",
        from: "vars.push(read_line(rest.get(..end).unwrap_or_default()));",
        to:   "let line = read_line(rest.get(..end).unwrap_or_default()); if line.name.len() < 2 { vars.push(line); }",
        test: glue("grub::tests::the_warning_and_other_peoples_variables_stay_and_ours_move_to_the_front"),
    },
    Source {
        name: "nobody looks for a foreign writer between read and write",
        file: "bootloader-glue/src/control.rs",
        from: "if self.read()? != copies {",
        to:   "if self.read()?.len() != copies.len() {",
        test: glue("control::tests::a_writer_without_the_lock_and_a_medium_that_lies_are_noticed"),
    },
    Source {
        name: "the environment is not read back",
        file: "bootloader-glue/src/control.rs",
        from: ".find(|(_, (expected, found))| expected != found)",
        to:   ".find(|(at, (expected, found))| expected != found && *at == usize::MAX)",
        test: glue("control::tests::a_writer_without_the_lock_and_a_medium_that_lies_are_noticed"),
    },
    Source {
        name: "the old copy goes out of force before the new one is read back",
        file: "bootloader-glue/src/control.rs",
        from: "if n + 1 < writes.len() {",
        to:   "if n > writes.len() {",
        test: glue("control::tests::the_old_copy_stays_in_force_where_the_new_one_was_acknowledged_and_lost"),
    },
    Source {
        name: "the environment is not synced",
        file: "bootloader-glue/src/store/place.rs",
        from: "file.sync_data().map_err(|e| self.fault(\"fdatasync\", &e))",
        to:   "Ok(())",
        test: glue("store::place::tests::a_write_that_cannot_be_made_durable_is_a_fault"),
    },
    // Board support
    Source {
        name: "the running group's slots are written",
        file: "board-support/src/slots/mod.rs",
        from: "if self.running == Some(group) {",
        to:   "if self.running == Some(group) && class.is_empty() {",
        test: Test { package: "mainstay-board-support", target: "slots", name: "what_must_not_be_written_is_refused_and_leaves_every_byte" },
    },
    // Daemon
    Source {
        name: "the agent's state is not synced",
        file: "agent/daemon/src/store.rs",
        from: "            target.sync_data()?;\n",
        to:   "",
        test: daemon("store::tests::a_copy_that_cannot_be_made_durable_is_a_fault"),
    },
    Source {
        name: "the watchdog is fed by a timer",
        file: "agent/daemon/src/health/feeder.rs",
        from: "let judged = state.judge(now, inner.now_ms());",
        to:   "let judged: Result<(), String> = Ok(());",
        test: daemon("health::feeder::tests::a_stale_heartbeat_stops_the_feeding_and_a_late_beat_begins_it_again"),
    },
    Source {
        name: "the guard goes whatever it hears",
        file: "agent/daemon/src/guard.rs",
        from: "Ok(_) | Err(_) => return wait_alone(order), // the agent is dead",
        to:   "Ok(_) | Err(_) => return true,",
        test: daemon("guard::tests::an_agent_that_is_killed_leaves_a_guard_that_reboots_at_the_deadline"),
    },
    Source {
        name: "an unhealthy trial sends its guard away",
        file: "agent/daemon/src/health/runner.rs",
        from: "Ok(guard) => self.standing = Some(guard),",
        to:   "Ok(guard) => guard.dismiss(),",
        test: daemon("health::tests::an_unhealthy_trial_keeps_its_guard_until_the_reset"),
    },
    Source {
        name: "the interlock is not heard",
        file: "agent/daemon/src/agent/gate.rs",
        from: "Ok(false) => return wait(\"the interlock: the plant says that the machine may not go down\"),",
        to:   "Ok(false) => {}",
        test: daemon("agent::gate::tests::a_reboot_waits_for_approval_and_for_the_interlock_even_by_hand"),
    },
    Source {
        name: "a deployment whose time has passed is begun",
        file: "agent/daemon/src/agent/gate.rs",
        from: "            && now > expires\n",
        to:   "            && now > expires.max(u64::MAX)\n",
        test: daemon("agent::gate::tests::a_download_waits_for_its_time_and_is_dropped_after_it"),
    },
];
