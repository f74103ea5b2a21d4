"""How the processes of a run find each other and agree, how they are stopped, and which of their failures may pass."""
