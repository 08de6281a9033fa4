"""The semantic context of a sample: superpixels, their centres, label histograms around them."""
