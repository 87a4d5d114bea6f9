//! Memory that all processes of the server share: rows of slots, their number fixed when the server starts. Each slot has
//! a part behind a lock of its own, and a part of atomics that anybody may touch at any time.
//!
//! It exists only where the library is preloaded. After a crash the server makes it anew, empty.

use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::ops::{Deref, DerefMut};

use pgrx::{pg_sys, AssertPGRXSharedMemory, PgSharedMemoryInitialization};

/// A row of slots.
pub struct Slots<L: 'static, A: 'static> {
    name: &'static CStr,
    count: fn() -> usize,
    first: UnsafeCell<*mut Slot<L, A>>,
}

#[repr(C)]
struct Slot<L, A> {
    lock: *mut pg_sys::LWLock,
    atomics: A,
    locked: UnsafeCell<L>,
}

// SAFETY: `first` is written once, in the postmaster before it forks; what it points to is behind a lock or atomic.
unsafe impl<L: Send, A: Sync> Sync for Slots<L, A> {}

impl<L: Default + Send, A: Default + Sync> Slots<L, A> {
    /// A row that does not exist yet; `count` is asked when the server starts.
    pub const fn new(name: &'static CStr, count: fn() -> usize) -> Self {
        Self { name, count, first: UnsafeCell::new(std::ptr::null_mut()) }
    }

    /// How many slots there are: none without preload.
    pub fn len(&self) -> usize {
        match self.slots().is_null() {
            true => 0,
            false => (self.count)(),
        }
    }

    /// The atomics of a slot.
    pub fn atomics(&self, at: usize) -> Option<&'static A> {
        // SAFETY: the pointer is that of an initialised slot, which lives as long as the process.
        self.slot(at).map(|slot| unsafe { &(*slot).atomics })
    }

    /// The locked part of a slot, together with others who only read.
    pub fn read(&self, at: usize) -> Option<Reading<L>> {
        // SAFETY: as above.
        self.slot(at).map(|slot| unsafe {
            let lock = Lock::acquire((*slot).lock, pg_sys::LWLockMode::LW_SHARED);
            Reading { data: (*slot).locked.get(), _lock: lock }
        })
    }

    /// The locked part of a slot, alone.
    pub fn write(&self, at: usize) -> Option<Writing<L>> {
        // SAFETY: as above.
        self.slot(at).map(|slot| unsafe {
            let lock = Lock::acquire((*slot).lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
            Writing { data: (*slot).locked.get(), _lock: lock }
        })
    }

    fn slots(&self) -> *mut Slot<L, A> {
        // SAFETY: written only before the postmaster forks.
        unsafe { *self.first.get() }
    }

    fn slot(&self, at: usize) -> Option<*mut Slot<L, A>> {
        // SAFETY: below the number of slots that were laid out.
        (at < self.len()).then(|| unsafe { self.slots().add(at) })
    }

    fn size(&self) -> usize {
        (self.count)().saturating_mul(size_of::<Slot<L, A>>())
    }
}

impl<L: Default + Send, A: Default + Sync> PgSharedMemoryInitialization for Slots<L, A> {
    type Value = AssertPGRXSharedMemory<()>;

    unsafe fn on_shmem_request(&'static self) {
        // SAFETY: called while the server asks for it.
        unsafe {
            pg_sys::RequestAddinShmemSpace(self.size());
            pg_sys::RequestNamedLWLockTranche(self.name.as_ptr(), (self.count)() as i32);
        }
    }

    unsafe fn on_shmem_startup(&'static self, _: Self::Value) {
        let mut is_there = false;
        // SAFETY: called while the server sets up its memory, in one process at a time; every slot is written before
        // anybody can see it.
        unsafe {
            let first: *mut Slot<L, A> = pg_sys::ShmemInitStruct(self.name.as_ptr(), self.size(), &mut is_there).cast();
            if !is_there {
                let locks = pg_sys::GetNamedLWLockTranche(self.name.as_ptr());
                for at in 0..(self.count)() {
                    let lock = &raw mut (*locks.add(at)).lock;
                    first.add(at).write(Slot { lock, atomics: A::default(), locked: UnsafeCell::default() });
                }
            }
            *self.first.get() = first;
        }
    }
}

/// The value that `pg_shmem_init!` hands on; slots make their own.
pub fn nothing() -> AssertPGRXSharedMemory<()> {
    // SAFETY: there is nothing in it.
    unsafe { AssertPGRXSharedMemory::new(()) }
}

struct Lock(*mut pg_sys::LWLock);

impl Lock {
    /// # Safety
    /// The lock must be one of the server's.
    unsafe fn acquire(lock: *mut pg_sys::LWLock, mode: pg_sys::LWLockMode::Type) -> Self {
        // SAFETY: as demanded; held until this is dropped, or until the server's abort releases all.
        unsafe { pg_sys::LWLockAcquire(lock, mode) };
        Self(lock)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // SAFETY: after an error of the server's nothing is held off any more, and its abort releases the lock.
        unsafe {
            if pg_sys::InterruptHoldoffCount > 0 {
                pg_sys::LWLockRelease(self.0);
            }
        }
    }
}

/// The locked part of a slot, to be read.
pub struct Reading<L> {
    data: *const L,
    _lock: Lock,
}

impl<L> Deref for Reading<L> {
    type Target = L;

    fn deref(&self) -> &L {
        // SAFETY: nobody writes while the lock is held.
        unsafe { &*self.data }
    }
}

/// The locked part of a slot, to be changed.
pub struct Writing<L> {
    data: *mut L,
    _lock: Lock,
}

impl<L> Deref for Writing<L> {
    type Target = L;

    fn deref(&self) -> &L {
        // SAFETY: nobody else touches it while the lock is held.
        unsafe { &*self.data }
    }
}

impl<L> DerefMut for Writing<L> {
    fn deref_mut(&mut self) -> &mut L {
        // SAFETY: as above.
        unsafe { &mut *self.data }
    }
}

/// Whether the library is being loaded by the postmaster, which alone can make memory to share and start a launcher.
pub fn is_preloading() -> bool {
    // SAFETY: plain values of the own process.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade }
}
