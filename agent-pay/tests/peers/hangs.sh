# A peer that starts and says nothing.
exec sleep 600
