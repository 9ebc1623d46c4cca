//! A view of two is parted, and one of both goes on alone. When it dies in the
//! moment in which they meet again, the other lacks what it took.

use roundelay_core::kvs::{Key, Mode};
use roundelay_core::status::{Class, MemberState};

use crate::checker::Checker;
use crate::fault::is_whole;
use crate::scenario::{pass, read_back, settle};
use crate::workload::{Action, Workload};
use crate::world::{MS, SECOND, Weather, World};

/// How long a step of the story may take.
const STEP: u64 = 30 * SECOND;

struct Run {
    world: World,
    workload: Workload,
    checker: Checker,
}

/// Runs it; says what went wrong.
pub fn run(seed: u64) -> Result<(), String> {
    let mut run = Run {
        world: World::new(seed, Weather::calm((200, 5 * MS))),
        workload: Workload::default(),
        checker: Checker::default(),
    };
    let (taker, other) = (seed as usize % 2, 1 - seed as usize % 2);
    run.world.add(Class::Durable, 0);
    run.world.add(Class::Durable, 0);
    run.until("whole", |world| world.now > SECOND && is_whole(world))?;
    run.write(taker, "both")?;
    run.pass(seed * 50 * MS)?;
    run.world.part(&[other].into(), true);
    run.write(taker, "alone")?;
    run.world.heal();
    let id = run.world.id(taker);
    run.until("met again", |world| {
        let node = world.processes[other].node.as_ref();
        let members = node.map(|node| node.ring_status().members);
        let mut members = members.into_iter().flatten();
        members.any(|member| member.id == id && member.state == MemberState::Alive)
    })?;
    run.world.crash(taker, seed % 4 < 2);
    // What it cannot know it must not answer, whatever else it says.
    for _ in 0..20 {
        run.call(other, Action::Get);
        run.pass(400 * MS)?;
    }
    run.pass(10 * SECOND)?;
    run.world.start(taker);
    settle(&mut run.world, &mut run.workload, &mut run.checker)?;
    read_back(&mut run.world, &mut run.workload, &mut run.checker)
}

impl Run {
    fn call(&mut self, index: usize, action: Action) {
        let Self {
            world,
            workload,
            checker,
        } = self;
        let key = Key::new("a/pair").unwrap();
        workload.call(world, checker, index, key, Mode::Quorum, action);
    }

    fn pass(&mut self, time: u64) -> Result<(), String> {
        pass(&mut self.world, &mut self.workload, &mut self.checker, time)
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&World) -> bool) -> Result<(), String> {
        let deadline = self.world.now + STEP;
        while !is_so(&self.world) {
            self.pass(MS)?;
            if self.world.now > deadline {
                return Err(format!("not {what}"));
            }
        }
        Ok(())
    }

    /// Writes until that is acknowledged.
    fn write(&mut self, index: usize, value: &str) -> Result<(), String> {
        let deadline = self.world.now + STEP;
        let done = self.workload.done;
        while self.workload.done == done {
            self.call(index, Action::Put(value.into()));
            while self.workload.open_count() > 0 {
                self.pass(MS)?;
            }
            if self.world.now > deadline {
                return Err(format!("{value:?} is not taken"));
            }
        }
        Ok(())
    }
}
