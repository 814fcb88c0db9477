//! Hooks: the host's as they are, the container's as steps.

use super::image::{Image, environment};
use super::step::{HookStep, Step};
use crate::error::{Error, Result};
use oci_spec::runtime::{Hook, Spec};

/// A hook that the host runs.
#[derive(Debug)]
pub struct Planned {
    /// Kind and number, for messages: `prestart hook #0`.
    pub name: String,
    /// The program.
    pub image: Image,
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
    let path = hook.path();
    if !path.is_absolute() {
        return Err(Error::spec(format!("{at}.path"), format!("{:?} is not absolute", path.display().to_string())));
    }
    let env: Vec<&str> = match hook.env() {
        Some(env) => environment(env.iter().map(String::as_str)),
        None => inherited.to_vec(),
    };
    Image::fixed(at, &path.to_string_lossy(), hook.args().as_deref().unwrap_or_default(), &env)
}

fn timeout(at: &str, hook: &Hook) -> Result<Option<u32>> {
    match hook.timeout() {
        None => Ok(None),
        Some(seconds) => match u32::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Ok(Some(seconds)),
            Ok(_) | Err(_) => Err(Error::spec(format!("{at}.timeout"), "must be greater than zero")),
        },
    }
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
        planned.push(Planned { name, image: image(&at, hook, &[])?, timeout: timeout(&at, hook)? });
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
        let image = image(&at, hook, inherited)?;
        let late = kind == "startContainer";
        let inherits = late && hook.env().is_none();
        steps.push(Step::Hook(Box::new(HookStep { name, image, timeout: timeout(&at, hook)?, late, inherits })));
    }
    Ok(steps)
}
