DROP TABLE watermark;
