"""Segmenters: SAM, SAM 2, their OpenVINO encoder, the embedded nano, LiteMedSAM."""
