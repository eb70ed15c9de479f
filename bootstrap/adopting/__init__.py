"""Clusters that kubeadm made, taken over as they stand: an inventory of what their machines and their API say.

Nothing is changed by it. What a cluster has and an inventory cannot say is told by name, never passed over.
"""

from __future__ import annotations

from bootstrap.adopting.adoption import Adopted as Adopted
from bootstrap.adopting.adoption import adopt as adopt
from bootstrap.adopting.refusal import AdoptId as AdoptId
