"""Parts of `sep-tf evaluate`: songs, systems, measures, statistics, tables, plots and the page."""
