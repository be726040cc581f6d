//! The container's control groups: config-linux.md#control-groups (runtime-spec v1.3.0).
//!
//! [`Placement`] decides where they are, [`Record`] is what must be known to find them again, and
//! `plan_make`, `plan_enter` and `plan_join` add the steps that make and join them. On v2 limits and
//! the device program are in force before the container's first process exists, as it is born in its
//! cgroup; on v1 they are written before the process is moved in. With `--systemd-cgroup` systemd makes the
//! cgroup around the process and knows the limits too. Freezing, killing, updating,
//! statistics and removal work on the record alone.

mod dbus;
mod dbus_wire;
mod devices;
mod dir;
mod enter;
mod freezer;
mod limits_v1;
mod limits_v2;
mod make;
mod path;
mod processes;
mod properties;
mod record;
mod remove;
mod setting;
mod stats;
mod stats_v1;
mod stats_v2;
mod systemd;
mod update;

pub use enter::{plan_enter, plan_join};
pub use make::{plan_delegate, plan_make};
pub use path::Placement;
pub use processes::Depth;
pub use record::{MemoryUse, Record};
