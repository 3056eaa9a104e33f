"""The same work side by side with what else is installed. Figures are ratios; nothing here passes or fails."""
