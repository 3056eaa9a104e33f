"""Whether an object goes because its namespace or its definition does: then no stored data goes with it (F18)."""

from __future__ import annotations

from blockvault.core.objects import deleting

from .context import Context
from .resources import CUSTOM_RESOURCES, NAMESPACES, Resource


async def is_leaving(context: Context, resource: Resource, namespace: str) -> bool:
    """Whether the namespace of such an object, or the definition of its kind, is being deleted or gone.

    To be asked after the object's own deletion was seen: both are marked before what they hold.
    """
    found = await context.gateway.get(NAMESPACES, namespace)
    if found is None or deleting(found):
        return True
    name = f"{resource.plural}.{resource.group}"
    definitions = await context.gateway.list_objects(
        CUSTOM_RESOURCES, fields={"metadata.name": name}, metadata_only=True
    )
    return not definitions or any(deleting(definition) for definition in definitions)
