"""What may leave the site: releases whose linkage is limited for every attacker, and the limit that is certified."""
