//! The way to the driver, from JavaScript's calls and from browser events.
//!
//! The law of this crate: JavaScript of the page's is called, and promises
//! are settled, only when no borrow of the driver is held. [`Handle::turn`]
//! is the one place that borrows it for change, and keeps the law.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use roundelay_core::Node;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::convert::FromWasmAbi;

use crate::clock;
use crate::driver::Driver;
use crate::store::Storage;
use crate::timer::Timer;

/// Keeps a driver alive. A peer that has joined keeps itself alive, by its
/// timer, until it leaves.
#[derive(Clone, Debug)]
pub(crate) struct Handle(Rc<RefCell<Driver>>);

/// A way to the driver for what the driver itself owns.
#[derive(Clone, Debug)]
pub(crate) struct WeakHandle(Weak<RefCell<Driver>>);

impl Handle {
    /// Starts to drive a node.
    pub(crate) fn start(node: Node, stun: Option<String>, storage: Storage) -> Self {
        let driver = Rc::new_cyclic(|weak| {
            let me = WeakHandle(weak.clone());
            RefCell::new(Driver::new(me, node, stun, storage))
        });
        let handle = Self(driver);
        let own = handle.clone();
        let timer = Timer::new(move || own.turn(Driver::on_timer));
        handle.turn(|driver| driver.start(timer));
        handle
    }

    /// Changes the driver, does all that follows, and then tells the page.
    pub(crate) fn turn<T>(&self, work: impl FnOnce(&mut Driver) -> T) -> T {
        let (result, calls) = {
            let mut driver = self.0.borrow_mut();
            driver.begin(clock::now());
            let result = work(&mut driver);
            (result, driver.settle())
        };
        for call in calls {
            call.make();
        }
        result
    }

    /// Looks at the driver.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Driver) -> T) -> T {
        at(&self.0.borrow())
    }
}

impl WeakHandle {
    /// As [`Handle::turn`], if the driver still lives.
    pub(crate) fn turn(&self, work: impl FnOnce(&mut Driver)) {
        if let Some(driver) = self.0.upgrade() {
            Handle(driver).turn(work);
        }
    }

    /// A handler of browser events that changes the driver.
    pub(crate) fn on<E>(&self, work: impl Fn(&mut Driver, E) + 'static) -> Closure<dyn FnMut(E)>
    where
        E: FromWasmAbi + 'static,
    {
        let driver = self.clone();
        Closure::new(move |event: E| driver.turn(|driver| work(driver, event)))
    }
}
