CREATE TABLE ablate_cells (
	study_id INTEGER NOT NULL,
	cell VARCHAR(12) NOT NULL,
	position INTEGER NOT NULL,
	levels JSON NOT NULL,
	settings JSON NOT NULL,
	parts JSON NOT NULL,
	PRIMARY KEY (study_id, cell)
)
CREATE TABLE ablate_history (
	number INTEGER NOT NULL,
	study_id INTEGER NOT NULL,
	part VARCHAR(12) NOT NULL,
	seed BIGINT NOT NULL,
	event VARCHAR(10) NOT NULL,
	who TEXT NOT NULL,
	time VARCHAR(32) NOT NULL,
	PRIMARY KEY (number)
)
CREATE INDEX ix_ablate_history_study_id ON ablate_history (study_id)
CREATE TABLE ablate_looks (
	study_id INTEGER NOT NULL,
	number INTEGER NOT NULL,
	seeds INTEGER NOT NULL,
	cells JSON NOT NULL,
	comparisons JSON NOT NULL,
	PRIMARY KEY (study_id, number)
)
CREATE TABLE ablate_metrics (
	trial_id INTEGER NOT NULL,
	name VARCHAR(200) NOT NULL,
	value DOUBLE NOT NULL,
	PRIMARY KEY (trial_id, name)
)
CREATE TABLE ablate_open_parts (
	study_id INTEGER NOT NULL,
	part VARCHAR(12) NOT NULL,
	seed BIGINT NOT NULL,
	begun BOOLEAN NOT NULL,
	reached INTEGER,
	deaths INTEGER NOT NULL,
	deaths_there INTEGER NOT NULL,
	error TEXT,
	PRIMARY KEY (study_id, part, seed)
)
CREATE TABLE ablate_parts (
	study_id INTEGER NOT NULL,
	part VARCHAR(12) NOT NULL,
	seed BIGINT NOT NULL,
	metrics JSON NOT NULL,
	seconds DOUBLE NOT NULL,
	steps INTEGER NOT NULL,
	facts JSON NOT NULL,
	PRIMARY KEY (study_id, part, seed)
)
CREATE TABLE ablate_points (
	study_id INTEGER NOT NULL,
	part VARCHAR(12) NOT NULL,
	seed BIGINT NOT NULL,
	name VARCHAR(200) NOT NULL,
	step INTEGER NOT NULL,
	value DOUBLE NOT NULL,
	PRIMARY KEY (study_id, part, seed, name, step)
)
CREATE TABLE ablate_studies (
	study_id INTEGER NOT NULL,
	name VARCHAR(64) NOT NULL,
	schema_version INTEGER NOT NULL,
	spec JSON NOT NULL,
	design JSON NOT NULL,
	folder TEXT NOT NULL,
	PRIMARY KEY (study_id),
	UNIQUE (name)
)
CREATE TABLE ablate_test_uses (
	study_id INTEGER NOT NULL,
	number INTEGER NOT NULL,
	cell VARCHAR(12) NOT NULL,
	time VARCHAR(32) NOT NULL,
	who TEXT NOT NULL,
	unfinished INTEGER NOT NULL,
	PRIMARY KEY (study_id, number)
)
CREATE TABLE ablate_trials (
	trial_id INTEGER NOT NULL,
	study_id INTEGER NOT NULL,
	cell VARCHAR(12) NOT NULL,
	seed BIGINT NOT NULL,
	attempts INTEGER NOT NULL,
	fruitless INTEGER NOT NULL,
	error TEXT,
	PRIMARY KEY (trial_id),
	UNIQUE (study_id, cell, seed)
)
