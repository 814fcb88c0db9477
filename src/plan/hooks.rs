//! Hooks: the host's as they are, the container's as steps.

use super::image::{Image, environment};
use super::step::{HookStep, Step};
use crate::error::Result;
use crate::spec::check_hook;
use oci_spec::runtime::{Hook, Spec};

/// A hook that the host runs.
#[derive(Debug)]
pub struct Planned {
    /// Kind and number, for messages: `prestart hook #0`.
    pub name: String,
    /// The program.
    pub image: Image,
    /// The bundle gives it no environment: it gets the runtime's own, as with runc.
    pub inherits: bool,
    /// Seconds; none means no limit.
    pub timeout: Option<u32>,
}

/// The hooks that run in the runtime's namespaces.
#[derive(Debug, Default)]
pub struct Hooks {
    /// Before the pivot: `prestart`, then `createRuntime`.
    pub runtime: Vec<Planned>,
    /// When the payload runs.
    pub poststart: Vec<Planned>,
}

fn image(at: &str, hook: &Hook, inherited: &[&str]) -> Result<Image> {
    let env: Vec<&str> = match hook.env() {
        Some(env) => environment(env.iter().map(String::as_str)),
        None => inherited.to_vec(),
    };
    Image::fixed(at, &hook.path().to_string_lossy(), hook.args().as_deref().unwrap_or_default(), &env)
}

/// A list of hooks that the host runs.
///
/// # Errors
/// A path that is not absolute, a timeout that is not positive.
pub fn host(kind: &str, list: Option<&[Hook]>) -> Result<Vec<Planned>> {
    let mut planned = Vec::new();
    for (i, hook) in list.unwrap_or_default().iter().enumerate() {
        let at = format!("hooks.{kind}[{i}]");
        let name = format!("{kind} hook #{i}");
        let timeout = check_hook(hook, &at)?;
        let inherits = hook.env().is_none();
        planned.push(Planned { name, image: image(&at, hook, &[])?, inherits, timeout });
    }
    Ok(planned)
}

/// The host's hooks of a container.
///
/// # Errors
/// As [`host`].
pub fn of(spec: &Spec) -> Result<Hooks> {
    let Some(hooks) = spec.hooks() else { return Ok(Hooks::default()) };
    #[allow(deprecated)]
    let mut runtime = host("prestart", hooks.prestart().as_deref())?;
    runtime.extend(host("createRuntime", hooks.create_runtime().as_deref())?);
    host("poststop", hooks.poststop().as_deref())?; // read again at delete; checked now
    Ok(Hooks { runtime, poststart: host("poststart", hooks.poststart().as_deref())? })
}

/// A list of hooks that init runs. Without an environment of its own, a hook gets `inherited`.
///
/// # Errors
/// As [`host`].
pub(super) fn inside(kind: &str, list: Option<&[Hook]>, inherited: &[&str]) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (i, hook) in list.unwrap_or_default().iter().enumerate() {
        let at = format!("hooks.{kind}[{i}]");
        let name = format!("{kind} hook #{i}");
        let timeout = check_hook(hook, &at)?;
        let image = image(&at, hook, inherited)?;
        let late = kind == "startContainer";
        let inherits = late && hook.env().is_none();
        steps.push(Step::Hook(Box::new(HookStep { name, image, timeout, late, inherits })));
    }
    Ok(steps)
}
