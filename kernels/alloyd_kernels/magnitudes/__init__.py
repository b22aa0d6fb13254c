"""Order statistics of |source - base| without a sort: a coarse histogram, a fine one, and ties per leaf."""
