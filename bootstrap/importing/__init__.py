"""Inventories made from what other tools have: Ansible and kubespray, Terraform, k0sctl, KubeOne.

What has no counterpart here is never lost in silence: readers take a setting out of what they read, and whatever is
left is told. What comes out is a valid inventory, or an error.
"""

from __future__ import annotations

from bootstrap.importing.draft import Imported as Imported
from bootstrap.importing.draft import ImportRefused as ImportRefused
from bootstrap.importing.sources import read as read
