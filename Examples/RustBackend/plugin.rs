//! A backend in Rust, without crates: records in memory, in a BTreeMap.
//!
//! A panic must not cross the boundary: every function the kernel calls catches what may panic, and answers all the same.

mod boundary;
use boundary::*;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Bound;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard};

/// Must agree with manifest.json: the kernel compares them.
const ID: &str = "org.example.rust-backend";
const VERSION: &str = "1.0.0";

const JSON: &[u8] = include_bytes!("manifest.json");
#[used]
#[link_section = ".note.backplane"]
static NOTE: ManifestNote<{ JSON.len() }> = ManifestNote {
    name_size: 10,
    json_size: JSON.len() as u32,
    kind: 1,
    name: *b"Backplane\0\0\0",
    json: *include_bytes!("manifest.json"),
};

struct Stored {
    content: u32,
    ts_ms: u64,
    version: u64,
    data: Vec<u8>,
}

type Records = BTreeMap<Vec<u8>, Arc<Stored>>;

struct Store {
    plugin: Plugin,
    host: &'static Host,
    instance: u64,
    records: Mutex<Records>,
}

impl Store {
    /// Poisoned or not: nothing panics between the first and the last op of a unit (without memory Rust aborts).
    fn locked(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Completes a token with a kind's result struct, of which `result` is the first field. No lock may be held.
    fn complete<T>(&self, token: u64, result: &T) {
        (self.host.complete)(self.instance, token, result as *const T as *const CallResult);
    }

    fn condition_holds(op: &Op, there: Option<&Arc<Stored>>) -> bool {
        match op.condition {
            0 => true,
            1 => there.is_none(),
            2 => there.is_some(),
            _ => there.is_some_and(|record| record.version == op.if_version),
        }
    }

    /// All ops or none: what each op replaced is kept until the last one has succeeded.
    unsafe fn apply(&self, unit: &Unit) -> WriteResult {
        let mut result = written(unit, OK, "");
        let mut records = self.locked();
        let mut replaced: Vec<(Vec<u8>, Option<Arc<Stored>>)> = Vec::new();
        for index in 0..unit.ops_count {
            let op = &*nth(unit.ops, (*unit.ops).size, index);
            let uri = op.uri.bytes();
            if !Store::condition_holds(op, records.get(uri)) {
                for (uri, old) in replaced.into_iter().rev() {
                    match old {
                        Some(old) => records.insert(uri, old),
                        None => records.remove(&uri),
                    };
                }
                result = written(unit, FAILED_PRECONDITION, "the condition of a write does not hold");
                result.failed_op = index;
                return result;
            }
            let old = if op.verb == 0 {
                let data = op.data.bytes().to_vec();
                let record = Stored {
                    content: op.content,
                    ts_ms: unit.ts_ms,
                    version: unit.version,
                    data,
                };
                records.insert(uri.to_vec(), Arc::new(record))
            } else {
                let old = records.remove(uri);
                result.absent_count += old.is_none() as u32;
                old
            };
            replaced.push((uri.to_vec(), old));
        }
        result
    }

    unsafe fn read(&self, read: &Read) {
        let found = self.locked().get(read.uri.bytes()).cloned();
        let mut result = read_result(if found.is_some() { OK } else { NOT_FOUND }, "");
        if let Some(record) = &found {
            result.record.content = record.content;
            result.record.ts_ms = record.ts_ms;
            result.record.version = record.version;
            result.record.data = View::of(&record.data);
        }
        self.complete(read.token, &result);
    }

    /// The cursor is the last URI of the page before.
    unsafe fn scan(&self, scan: &Scan) {
        let (prefix, cursor) = (scan.prefix.bytes(), scan.cursor.bytes());
        let start = if cursor < prefix {
            Bound::Included(prefix)
        } else {
            Bound::Excluded(cursor)
        };
        let limit = scan.credits as usize;
        let mut page: Vec<(Vec<u8>, Arc<Stored>)> = self
            .locked()
            .range::<[u8], _>((start, Bound::Unbounded))
            .take_while(|(uri, _)| uri.starts_with(prefix))
            .take(limit + 1)
            .map(|(uri, record)| (uri.clone(), record.clone()))
            .collect();
        let is_last = page.len() <= limit;
        page.truncate(limit);
        let items: Vec<ScanItem> = page
            .iter()
            .map(|(uri, record)| ScanItem {
                uri: View::of(uri),
                ts_ms: record.ts_ms,
                version: record.version,
                size_bytes: record.data.len() as u64,
                content: record.content,
                reserved: 0,
            })
            .collect();
        let next = if is_last {
            View::EMPTY
        } else {
            page.last().map_or(View::EMPTY, |(uri, _)| View::of(uri))
        };
        self.complete(scan.token, &page_of(OK, "", &items, next));
    }
}

fn written(unit: &Unit, code: u32, message: &'static str) -> WriteResult {
    let durability = 1; // BP_DURABILITY_MEMORY
    let result = CallResult::of::<WriteResult>(code, message);
    WriteResult {
        result,
        durability,
        absent_count: 0,
        failed_op: 0,
        reserved: 0,
        ts_ms: unit.ts_ms,
    }
}

fn read_result(code: u32, message: &'static str) -> ReadResult {
    let size = std::mem::size_of::<Record>() as u32;
    let record = Record {
        size,
        content: 0,
        ts_ms: 0,
        version: 0,
        data: View::EMPTY,
    };
    ReadResult {
        result: CallResult::of::<ReadResult>(code, message),
        record,
    }
}

/// Valid as long as `items` and `cursor`.
fn page_of(code: u32, message: &'static str, items: &[ScanItem], cursor: View) -> ScanResult {
    ScanResult {
        result: CallResult::of::<ScanResult>(code, message),
        items: items.as_ptr(),
        items_count: items.len() as u32,
        item_size: std::mem::size_of::<ScanItem>() as u32,
        cursor,
    }
}

/// Arrays of sized structs are walked by the size of their first element (core.h).
unsafe fn nth<T>(first: *const T, size: u32, index: u32) -> *const T {
    first.cast::<u8>().add(size as usize * index as usize).cast()
}

/// Runs what may panic; after a panic the call is completed by `failed`. A token that is completed already is ignored.
fn guarded(body: impl FnOnce(), failed: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(body)).is_err() {
        let _ = catch_unwind(AssertUnwindSafe(failed));
    }
}

const DEFECT: &str = "the backend has a defect: it panicked";

extern "C" fn apply(this: *mut c_void, units: *const Unit, units_count: u32) {
    // SAFETY: the host calls with the instance it was given, and units are valid until this returns.
    let store = unsafe { &*this.cast::<Store>() };
    for index in 0..units_count {
        let unit = unsafe { &*nth(units, (*units).size, index) };
        guarded(
            || store.complete(unit.token, &unsafe { store.apply(unit) }),
            || store.complete(unit.token, &written(unit, INTERNAL, DEFECT)),
        );
    }
}

extern "C" fn read(this: *mut c_void, reads: *const Read, reads_count: u32) {
    let store = unsafe { &*this.cast::<Store>() };
    for index in 0..reads_count {
        let read = unsafe { &*nth(reads, (*reads).size, index) };
        guarded(
            || unsafe { store.read(read) },
            || store.complete(read.token, &read_result(INTERNAL, DEFECT)),
        );
    }
}

extern "C" fn scan(this: *mut c_void, scan: *const Scan) {
    let (store, scan) = unsafe { (&*this.cast::<Store>(), &*scan) };
    guarded(
        || unsafe { store.scan(scan) },
        || store.complete(scan.token, &page_of(INTERNAL, DEFECT, &[], View::EMPTY)),
    );
}

/// This store has no settings. Where there are some, read the configuration here and report each mistake.
extern "C" fn configure(_: *mut c_void, _configuration: *const c_void, _report: *const c_void) -> u32 {
    OK
}

extern "C" fn nothing_to_do(_: *mut c_void, _deadline_ns: u64, _report: *const c_void) -> u32 {
    OK
}

extern "C" fn destroy(this: *mut c_void) {
    // SAFETY: made by create, and destroyed once.
    guarded(|| drop(unsafe { Box::from_raw(this.cast::<Store>()) }), || ());
}

static BACKEND: Backend = Backend {
    size: std::mem::size_of::<Backend>() as u32,
    flags: 1 | 2,  // BP_BACKEND_ATOMIC, BP_BACKEND_VERSIONS
    apply_mode: 1, // BP_MODE_DIRECT: completes before it returns, and never waits
    read_mode: 1,
    scan_mode: 1,
    durability_max: 1,
    apply,
    read,
    scan,
};

extern "C" fn extension(_: *mut c_void, id: View) -> *const c_void {
    if unsafe { id.bytes() } == b"backplane.backend/1" {
        return &BACKEND as *const Backend as *const c_void;
    }
    std::ptr::null()
}

extern "C" fn create(host: *const Host, instance: u64, _report: *const c_void) -> *const Plugin {
    let made = catch_unwind(AssertUnwindSafe(|| {
        let plugin = Plugin {
            size: std::mem::size_of::<Plugin>() as u32,
            reserved: 0,
            this: std::ptr::null_mut(),
            configure,
            start: nothing_to_do,
            quiesce: nothing_to_do,
            stop: nothing_to_do,
            destroy,
            cancel: None,
            grant: None,
            extension,
        };
        // SAFETY: the host's table is static for the life of the process.
        let store = Store {
            plugin,
            host: unsafe { &*host },
            instance,
            records: Mutex::new(BTreeMap::new()),
        };
        let store = Box::into_raw(Box::new(store));
        unsafe {
            (*store).plugin.this = store.cast();
            &(*store).plugin as *const Plugin
        }
    }));
    made.unwrap_or(std::ptr::null())
}

static KINDS: [View; 1] = [View::of(b"backend")];
static ENTRY: Entry = Entry {
    size: std::mem::size_of::<Entry>() as u32,
    abi_major: 0,
    abi_minor: 1,
    kinds_count: 1,
    id: View::of(ID.as_bytes()),
    version: View::of(VERSION.as_bytes()),
    kinds: KINDS.as_ptr(),
    create,
};

#[no_mangle]
pub extern "C" fn backplane_plugin_v1() -> *const Entry {
    &ENTRY
}
