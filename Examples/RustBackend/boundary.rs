//! What this plugin uses of backplane/core.h, message.h and backend.h, by hand. The headers are the specification.
#![allow(dead_code)]

use std::ffi::c_void;

pub const OK: u32 = 0;
pub const NOT_FOUND: u32 = 5;
pub const FAILED_PRECONDITION: u32 = 9;
pub const INTERNAL: u32 = 13;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct View {
    pub data: *const u8,
    pub size: u64,
}

impl View {
    pub const EMPTY: View = View {
        data: std::ptr::null(),
        size: 0,
    };

    /// Valid as long as `bytes`.
    pub const fn of(bytes: &[u8]) -> View {
        View {
            data: bytes.as_ptr(),
            size: bytes.len() as u64,
        }
    }

    /// The view must be valid for `'a`.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.size == 0 {
            return &[];
        }
        std::slice::from_raw_parts(self.data, self.size as usize)
    }
}

#[repr(C)]
pub struct CallResult {
    pub size: u32,
    pub code: u32,
    pub flags: u32,
    pub retry_after_ms: u32,
    pub message: View,
    pub detail: View,
}

impl CallResult {
    /// The head of a result struct `T`.
    pub fn of<T>(code: u32, message: &'static str) -> CallResult {
        let size = std::mem::size_of::<T>() as u32;
        CallResult {
            size,
            code,
            flags: 0,
            retry_after_ms: 0,
            message: View::of(message.as_bytes()),
            detail: View::EMPTY,
        }
    }
}

#[repr(C)]
pub struct Op {
    pub size: u32,
    pub verb: u32,
    pub condition: u32,
    pub content: u32,
    pub if_version: u64,
    pub flags: u32,
    pub reserved: u32,
    pub uri: View,
    pub data: View,
    pub refusal: View,
}

#[repr(C)]
pub struct Record {
    pub size: u32,
    pub content: u32,
    pub ts_ms: u64,
    pub version: u64,
    pub data: View,
}

#[repr(C)]
pub struct ReadResult {
    pub result: CallResult,
    pub record: Record,
}

#[repr(C)]
pub struct WriteResult {
    pub result: CallResult,
    pub durability: u32,
    pub absent_count: u32,
    pub failed_op: u32,
    pub reserved: u32,
    pub ts_ms: u64,
}

#[repr(C)]
pub struct Unit {
    pub size: u32,
    pub ops_count: u32,
    pub ops: *const Op,
    pub token: u64,
    pub call: *const c_void,
    pub ts_ms: u64,
    pub version: u64,
}

#[repr(C)]
pub struct Read {
    pub size: u32,
    pub flags: u32,
    pub token: u64,
    pub call: *const c_void,
    pub uri: View,
}

#[repr(C)]
pub struct Scan {
    pub size: u32,
    pub flags: u32,
    pub token: u64,
    pub call: *const c_void,
    pub prefix: View,
    pub cursor: View,
    pub credits: u32,
    pub reserved: u32,
}

#[repr(C)]
pub struct ScanItem {
    pub uri: View,
    pub ts_ms: u64,
    pub version: u64,
    pub size_bytes: u64,
    pub content: u32,
    pub reserved: u32,
}

#[repr(C)]
pub struct ScanResult {
    pub result: CallResult,
    pub items: *const ScanItem,
    pub items_count: u32,
    pub item_size: u32,
    pub cursor: View,
}

#[repr(C)]
pub struct Backend {
    pub size: u32,
    pub flags: u32,
    pub apply_mode: u32,
    pub read_mode: u32,
    pub scan_mode: u32,
    pub durability_max: u32,
    pub apply: extern "C" fn(*mut c_void, *const Unit, u32),
    pub read: extern "C" fn(*mut c_void, *const Read, u32),
    pub scan: extern "C" fn(*mut c_void, *const Scan),
}

/// Of the host's functions only the first is used here; the others follow it.
#[repr(C)]
pub struct Host {
    pub size: u32,
    pub abi_major: u32,
    pub abi_minor: u32,
    pub reserved: u32,
    pub complete: extern "C" fn(u64, u64, *const CallResult),
}

#[repr(C)]
pub struct Plugin {
    pub size: u32,
    pub reserved: u32,
    pub this: *mut c_void,
    pub configure: extern "C" fn(*mut c_void, *const c_void, *const c_void) -> u32,
    pub start: extern "C" fn(*mut c_void, u64, *const c_void) -> u32,
    pub quiesce: extern "C" fn(*mut c_void, u64, *const c_void) -> u32,
    pub stop: extern "C" fn(*mut c_void, u64, *const c_void) -> u32,
    pub destroy: extern "C" fn(*mut c_void),
    pub cancel: Option<extern "C" fn(*mut c_void, u64)>,
    pub grant: Option<extern "C" fn(*mut c_void, u64, u32)>,
    pub extension: extern "C" fn(*mut c_void, View) -> *const c_void,
}

#[repr(C)]
pub struct Entry {
    pub size: u32,
    pub abi_major: u32,
    pub abi_minor: u32,
    pub kinds_count: u32,
    pub id: View,
    pub version: View,
    pub kinds: *const View,
    pub create: extern "C" fn(*const Host, u64, *const c_void) -> *const Plugin,
}

// SAFETY: an entry and its views are constant and point to constants.
unsafe impl Sync for Entry {}
unsafe impl Sync for View {}

/// manifest.json as an ELF note (backplane/manifest.h); the struct's size is padded to its alignment.
#[repr(C, align(4))]
pub struct ManifestNote<const SIZE: usize> {
    pub name_size: u32,
    pub json_size: u32,
    pub kind: u32,
    pub name: [u8; 12],
    pub json: [u8; SIZE],
}

const _: () = {
    assert!(std::mem::size_of::<CallResult>() == 48);
    assert!(std::mem::size_of::<Op>() == 80);
    assert!(std::mem::size_of::<ReadResult>() == 88);
    assert!(std::mem::size_of::<WriteResult>() == 72);
    assert!(std::mem::size_of::<Unit>() == 48);
    assert!(std::mem::size_of::<Read>() == 40);
    assert!(std::mem::size_of::<Scan>() == 64);
    assert!(std::mem::size_of::<ScanItem>() == 48);
    assert!(std::mem::size_of::<ScanResult>() == 80);
    assert!(std::mem::size_of::<Backend>() == 48);
    assert!(std::mem::size_of::<Plugin>() == 80);
    assert!(std::mem::size_of::<Entry>() == 64);
};
